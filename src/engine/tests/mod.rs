mod model;
mod policy;
