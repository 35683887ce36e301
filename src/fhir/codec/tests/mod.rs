//! Both formats together.

mod hostile;
mod published;
