#[cfg_attr(not(fuzzing), expect(unreachable_pub, reason = "only a fuzz target needs it"))]
pub(crate) mod model;
mod ops;
#[cfg(test)]
mod lost;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod silence;
#[cfg(test)]
mod watching;
