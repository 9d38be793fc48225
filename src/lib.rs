//! Cognitive memory.
