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
    /// Of the connection's requests.
    number: u32,
}

impl Visit {
    pub(crate) fn begin(conn: &Rc<Conn>) -> Self {
        conn.state.begin();
        let mut record = Box::new(Record::begin());
        // Unless an answer comes to be.
        record.status = StatusCode::from_u16(GONE).unwrap_or(StatusCode::BAD_REQUEST);
        let number = conn.next.get();
        conn.next.set(number.wrapping_add(1));
        Self {
            record,
            conn: Rc::clone(conn),
            number,
        }
    }

    /// A piece of the response, so many bytes, is to be taken by the client, who may let it wait.
    pub(crate) fn sends(&mut self, bytes: usize) {
        self.record.sent += bytes as u64;
        if let Some(stalls) = &self.conn.stalls {
            stalls.begin(self.number);
        }
    }

    /// The client has taken what was sent.
    pub(crate) fn sent(&self) {
        if let Some(stalls) = &self.conn.stalls {
            stalls.end(self.number);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.sent();
        self.conn.state.end();
        self.conn.worker.finish(&self.record);
    }
}
