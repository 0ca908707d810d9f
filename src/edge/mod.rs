//! Everything that is not repeatable: files, clock, threads, signals. A table of doors.

pub mod clock;
