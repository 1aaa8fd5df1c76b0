//! TEMP
use crate::db::{Change, Db};
use crate::filter::AuthRecord;
use crate::http::error::ApiError;
use std::sync::Arc;
pub struct Hub;
impl Hub {
    pub fn new(
        _: Arc<crate::schema::Schema>,
        _: Arc<dyn crate::random::Source>,
        _: Arc<dyn litekeep_core::env::Clock>,
    ) -> Arc<Self> {
        Arc::new(Self)
    }
    pub fn connect(&self) -> Option<futures::stream::Empty<Result<bytes::Bytes, std::convert::Infallible>>> {
        None
    }
    pub fn subscribe(&self, _: &str, _: Vec<String>, _: Option<AuthRecord>) -> Result<(), ApiError> {
        Ok(())
    }
    pub fn publish(&self, _: Vec<Change>) {}
    pub fn close(&self) {}
    pub async fn run(self: Arc<Self>, _: Db) {}
}
pub fn parse(_: &crate::db::rows::Record) -> Result<(String, Vec<String>), ApiError> {
    Err(ApiError::not_found())
}
