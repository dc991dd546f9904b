//! A lookup is in its caller's trace and in no other, with no global subscriber.

mod support;

trace_matrix!(support::trace_matrix::Global::None);
