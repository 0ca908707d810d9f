//! The bank against a plain list of rows, and its promises one by one.
