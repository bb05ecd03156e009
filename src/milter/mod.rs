//! (milter)
