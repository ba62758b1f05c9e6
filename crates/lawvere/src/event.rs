/// What a run tells while it goes on.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Event {
    /// A new part begins.
    Part(String),
    /// What the next part will take, before it begins.
    Estimate {
        tokens: usize,
        seconds: f64,
        memory: u64,
        disk: u64,
    },
    /// How far the part is.
    Progress { done: usize, total: usize },
    /// Something that did not come out as asked, though there is a result.
    Warning(String),
}
