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

/// A port of 127.0.0.1 that is free now. It is none of those that the system gives to connections, so that who stops and
/// starts again finds it free still.
pub(crate) fn free_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(10_000..32_000)).find(is_free).unwrap()
}

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
