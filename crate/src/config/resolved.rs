//! Placeholder until the checked configuration lands.
