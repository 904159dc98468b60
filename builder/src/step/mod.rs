//! The steps that make layers, an executor for each instruction.

mod select;
