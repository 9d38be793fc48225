//! PostgreSQL with pgvector.
