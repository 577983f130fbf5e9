//! One way to ask both databases: a statement, its values, and where it goes. Not an abstraction of databases in general:
//! it knows the few types our tables have, and nothing of pools, migrations or what the statements mean.
//!
//! Invariants: statements are static text; every value is bound, never written into the text; a number is 64 bits wide on
//! both sides, so that a row reads the same from either.

use std::borrow::Cow;
use std::marker::PhantomData;

use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, FromRow, Postgres, Sqlite, Transaction};

use super::dialect;

/// A value to bind.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) enum Value<'q> {
    Number(Option<i64>),
    Truth(bool),
    Text(Option<Cow<'q, str>>),
    Bytes(Cow<'q, [u8]>),
}

macro_rules! value_from {
    ($($from:ty, $value:pat => $to:expr;)+) => {
        $(impl<'q> From<$from> for Value<'q> {
            fn from($value: $from) -> Self {
                $to
            }
        })+
    };
}

value_from! {
    i64, n => Self::Number(Some(n));
    i32, n => Self::Number(Some(n.into()));
    u32, n => Self::Number(Some(n.into()));
    Option<i64>, n => Self::Number(n);
    bool, truth => Self::Truth(truth);
    &'q str, text => Self::Text(Some(Cow::Borrowed(text)));
    &'q String, text => Self::Text(Some(Cow::Borrowed(text)));
    String, text => Self::Text(Some(Cow::Owned(text)));
    Option<&'q str>, text => Self::Text(text.map(Cow::Borrowed));
    Option<&'q String>, text => Self::Text(text.map(|text| Cow::Borrowed(text.as_str())));
    &'q Option<String>, text => Self::Text(text.as_deref().map(Cow::Borrowed));
    Option<String>, text => Self::Text(text.map(Cow::Owned));
    &'q [u8], bytes => Self::Bytes(Cow::Borrowed(bytes));
    &'q Vec<u8>, bytes => Self::Bytes(Cow::Borrowed(bytes));
    Vec<u8>, bytes => Self::Bytes(Cow::Owned(bytes));
}

/// A row of either database makes this.
pub(in crate::store) trait Read:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin> Read for T {}

/// Where a statement goes.
pub(in crate::store) enum Link<'c> {
    Sqlite(&'c mut SqliteConnection),
    SqlitePool(&'c SqlitePool),
    Postgres(&'c mut PgConnection),
    PostgresPool(&'c PgPool),
}

/// A transaction.
pub(in crate::store) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Tx {
    /// What was done is durable.
    pub(in crate::store) async fn commit(self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
    }

    /// Nothing was done.
    pub(in crate::store) async fn rollback(self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(tx) => tx.rollback().await,
            Self::Postgres(tx) => tx.rollback().await,
        }
    }
}

impl<'c> From<&'c mut Tx> for Link<'c> {
    fn from(tx: &'c mut Tx) -> Self {
        match tx {
            Tx::Sqlite(tx) => Self::Sqlite(&mut *tx),
            Tx::Postgres(tx) => Self::Postgres(&mut *tx),
        }
    }
}

/// Connections that read, each statement by itself.
#[derive(Clone)]
pub(in crate::store) enum Readers {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl<'c> From<&'c Readers> for Link<'c> {
    fn from(readers: &'c Readers) -> Self {
        match readers {
            Readers::Sqlite(pool) => Self::SqlitePool(pool),
            Readers::Postgres(pool) => Self::PostgresPool(pool),
        }
    }
}

/// A statement that gives no rows.
pub(in crate::store) fn query<'q>(sql: &'static str) -> Query<'q> {
    Query { sql, values: Vec::new() }
}

/// A statement that gives rows.
pub(in crate::store) fn query_as<'q, T: Read>(sql: &'static str) -> QueryAs<'q, T> {
    QueryAs { query: query(sql), row: PhantomData }
}

/// A statement that gives rows of one column.
pub(in crate::store) fn query_scalar<'q, T>(sql: &'static str) -> QueryScalar<'q, T>
where
    (T,): Read,
{
    QueryScalar { query: query_as(sql) }
}

/// See [`query`].
pub(in crate::store) struct Query<'q> {
    sql: &'static str,
    values: Vec<Value<'q>>,
}

/// See [`query_as`].
pub(in crate::store) struct QueryAs<'q, T> {
    query: Query<'q>,
    row: PhantomData<fn() -> T>,
}

/// See [`query_scalar`].
pub(in crate::store) struct QueryScalar<'q, T> {
    query: QueryAs<'q, (T,)>,
}

/// What a statement did.
pub(in crate::store) struct Done(u64);

impl Done {
    /// How many rows it changed.
    pub(in crate::store) fn rows_affected(&self) -> u64 {
        self.0
    }
}

impl<'q> Query<'q> {
    /// The next value: `?1` is the first.
    pub(in crate::store) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    pub(in crate::store) async fn execute(self, on: impl Into<Link<'_>>) -> sqlx::Result<Done> {
        Ok(Done(match on.into() {
            Link::Sqlite(c) => sqlx::query_with(self.sql, self.sqlite()?).execute(c).await?.rows_affected(),
            Link::SqlitePool(c) => sqlx::query_with(self.sql, self.sqlite()?).execute(c).await?.rows_affected(),
            Link::Postgres(c) => sqlx::query_with(self.text(), self.postgres()?).execute(c).await?.rows_affected(),
            Link::PostgresPool(c) => sqlx::query_with(self.text(), self.postgres()?).execute(c).await?.rows_affected(),
        }))
    }

    fn text(&self) -> AssertSqlSafe<String> {
        AssertSqlSafe(dialect::postgres(self.sql))
    }

    fn sqlite(&self) -> sqlx::Result<SqliteArguments> {
        let mut all = SqliteArguments::default();
        for value in &self.values {
            match value {
                Value::Number(n) => all.add(*n),
                Value::Truth(truth) => all.add(*truth),
                Value::Text(text) => all.add(text.as_deref().map(ToOwned::to_owned)),
                Value::Bytes(bytes) => all.add(bytes.to_vec()),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(all)
    }

    fn postgres(&self) -> sqlx::Result<PgArguments> {
        let mut all = PgArguments::default();
        for value in &self.values {
            match value {
                Value::Number(n) => all.add(*n),
                Value::Truth(truth) => all.add(*truth),
                Value::Text(text) => all.add(text.as_deref().map(dialect::storable)),
                Value::Bytes(bytes) => all.add(bytes.as_ref()),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(all)
    }
}

impl<'q, T: Read> QueryAs<'q, T> {
    /// See [`Query::bind`].
    pub(in crate::store) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.query = self.query.bind(value);
        self
    }

    pub(in crate::store) async fn fetch_all(self, on: impl Into<Link<'_>>) -> sqlx::Result<Vec<T>> {
        let q = self.query;
        match on.into() {
            Link::Sqlite(c) => sqlx::query_as_with(q.sql, q.sqlite()?).fetch_all(c).await,
            Link::SqlitePool(c) => sqlx::query_as_with(q.sql, q.sqlite()?).fetch_all(c).await,
            Link::Postgres(c) => sqlx::query_as_with(q.text(), q.postgres()?).fetch_all(c).await,
            Link::PostgresPool(c) => sqlx::query_as_with(q.text(), q.postgres()?).fetch_all(c).await,
        }
    }

    pub(in crate::store) async fn fetch_optional(self, on: impl Into<Link<'_>>) -> sqlx::Result<Option<T>> {
        let q = self.query;
        match on.into() {
            Link::Sqlite(c) => sqlx::query_as_with(q.sql, q.sqlite()?).fetch_optional(c).await,
            Link::SqlitePool(c) => sqlx::query_as_with(q.sql, q.sqlite()?).fetch_optional(c).await,
            Link::Postgres(c) => sqlx::query_as_with(q.text(), q.postgres()?).fetch_optional(c).await,
            Link::PostgresPool(c) => sqlx::query_as_with(q.text(), q.postgres()?).fetch_optional(c).await,
        }
    }

    pub(in crate::store) async fn fetch_one(self, on: impl Into<Link<'_>>) -> sqlx::Result<T> {
        self.fetch_optional(on).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

impl<'q, T> QueryScalar<'q, T>
where
    (T,): Read,
{
    /// See [`Query::bind`].
    pub(in crate::store) fn bind(self, value: impl Into<Value<'q>>) -> Self {
        Self { query: self.query.bind(value) }
    }

    pub(in crate::store) async fn fetch_all(self, on: impl Into<Link<'_>>) -> sqlx::Result<Vec<T>> {
        Ok(self.query.fetch_all(on).await?.into_iter().map(|(value,)| value).collect())
    }

    pub(in crate::store) async fn fetch_optional(self, on: impl Into<Link<'_>>) -> sqlx::Result<Option<T>> {
        Ok(self.query.fetch_optional(on).await?.map(|(value,)| value))
    }

    pub(in crate::store) async fn fetch_one(self, on: impl Into<Link<'_>>) -> sqlx::Result<T> {
        Ok(self.query.fetch_one(on).await?.0)
    }
}
