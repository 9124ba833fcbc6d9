//! The operations of `exact` one by one, on plain slices, for tests of operations.
