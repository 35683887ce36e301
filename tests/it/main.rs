//! The product from outside: HTTP in, database and practice out.

mod r4_tables;
mod test_data;
mod validation;
