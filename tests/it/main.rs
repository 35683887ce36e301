//! The product from outside: HTTP in, database and practice out.
