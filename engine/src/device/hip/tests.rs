//! The whole driver path of `hip`.
