//! The product from outside: HTTP in, database and practice out.

mod broken_on_purpose;
mod r4_tables;
mod test_data;
mod validation;
