mod model;
mod ops;
mod policy;
