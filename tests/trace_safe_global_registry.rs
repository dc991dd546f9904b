//! A lookup is in its caller's trace and in no other, beside a global registry.

mod support;

trace_matrix!(support::trace_matrix::Global::Registry);
