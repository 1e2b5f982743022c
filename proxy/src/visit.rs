//! One request under way: counted on its connection, and recorded when it is over, however it ends.

use std::rc::Rc;

use http::StatusCode;

use crate::listen::Conn;
use crate::record::Record;

/// The client closed the connection before it had an answer; nobody else uses this status.
const GONE: u16 = 499;

/// Ends the request when it is dropped.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) record: Box<Record>,
    conn: Rc<Conn>,
}

impl Visit {
    pub(crate) fn begin(conn: &Rc<Conn>) -> Self {
        conn.state.begin();
        let mut record = Box::new(Record::begin());
        // Unless an answer comes to be.
        record.status = StatusCode::from_u16(GONE).unwrap_or(StatusCode::BAD_REQUEST);
        Self { record, conn: Rc::clone(conn) }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.conn.state.end();
        self.conn.worker.finish(&self.record);
    }
}
