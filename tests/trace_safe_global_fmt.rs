//! A lookup is in its caller's trace and in no other, beside a global fmt subscriber with all span events.

mod support;

trace_matrix!(support::trace_matrix::Global::FmtAllSpanEvents);
