//! A whole service for each test: real sockets, the real token endpoint, a real stand-in practice system, a database of
//! its own and a clock that stands still.

pub(crate) mod app;
pub(crate) mod binary;
pub(crate) mod build;
pub(crate) mod caller;
pub(crate) mod database;
pub(crate) mod mesh;
pub(crate) mod practices;
pub(crate) mod subscriber;

pub(crate) use app::TestApp;
pub(crate) use database::Database;

/// One test body, run as `name::sqlite` and as `name::postgres` (where `TEST_POSTGRES_URL` says there is one).
///
/// `on_each_database! { async fn a_sentence_about_the_product(app: TestApp) { ... } }`, any number of them.
macro_rules! on_each_database {
    ($($(#[$meta:meta])* async fn $name:ident($($argument:tt)*) $body:block)*) => {$(
        mod $name {
            use super::*;

            $(#[$meta])*
            async fn told($($argument)*) $body

            #[test]
            fn sqlite() {
                $crate::support::app::run($crate::support::Database::Sqlite, told);
            }

            #[test]
            fn postgres() {
                $crate::support::app::run($crate::support::Database::Postgres, told);
            }
        }
    )*};
}
pub(crate) use on_each_database;
