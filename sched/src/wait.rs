//! Why a goroutine waits: shown in the deadlock report.

/// The reason a goroutine gives when it parks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum WaitReason {
    /// Not waiting.
    None = 0,
    /// A send on a channel.
    ChanSend,
    /// A receive on a channel.
    ChanReceive,
    /// A select with cases.
    Select,
    /// A wait that nothing can end: a select without cases, a receive on a `never` channel.
    Forever,
    /// A sleep.
    Sleep,
    /// A mutex's lock.
    MutexLock,
    /// A read lock of a reader-writer lock.
    RwLockRead,
    /// A write lock of a reader-writer lock.
    RwLockWrite,
    /// A condition variable's wait.
    CondWait,
    /// A wait group's wait.
    WaitGroupWait,
    /// Another caller's initialisation of a once.
    OnceWait,
    /// A semaphore's acquire.
    SemAcquire,
    /// A barrier's wait.
    BarrierWait,
    /// The end of another goroutine.
    Join,
    /// The end of a scope.
    ScopeJoin,
    /// A network descriptor.
    Net,
    /// Work for a goroutine of the runtime's own.
    Background,
}

impl WaitReason {
    /// The reason in the words of the report.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::ChanSend => "chan send",
            Self::ChanReceive => "chan receive",
            Self::Select => "select",
            Self::Forever => "forever",
            Self::Sleep => "sleep",
            Self::MutexLock => "mutex lock",
            Self::RwLockRead => "rwlock read",
            Self::RwLockWrite => "rwlock write",
            Self::CondWait => "condvar wait",
            Self::WaitGroupWait => "waitgroup wait",
            Self::OnceWait => "once wait",
            Self::SemAcquire => "semaphore acquire",
            Self::BarrierWait => "barrier wait",
            Self::Join => "join",
            Self::ScopeJoin => "scope join",
            Self::Net => "network",
            Self::Background => "work",
        }
    }
}
