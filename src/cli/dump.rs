//! Memory holds keys: no core dump of it is written, and no other process of this user reads it.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Forbids both, for this process and those that it starts.
pub(super) fn forbid() -> std::io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    // A limit of zero does not keep a dump from a pipe (`kernel.core_pattern = |…`), this does.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
