//! A lookup is in its caller's trace and in no other, beside a global subscriber with per-layer filters.

mod support;

trace_matrix!(support::trace_matrix::Global::PerLayerEnvFilter);
