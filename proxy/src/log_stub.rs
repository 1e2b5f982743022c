#[derive(Debug, Clone, Default)]
pub(crate) struct Logger;
impl Logger {
    pub(crate) fn is_off(&self) -> bool { true }
    pub(crate) fn write(&self, _record: &crate::record::Record) {}
}
