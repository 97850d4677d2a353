use std::os::unix::fs::MetadataExt as _;

use cardless::store::{SqliteStore, Threads};
use tempfile::TempDir;

/// Where SQLite's shared lock on a database file begins (`SHARED_FIRST` of its file format).
const SHARED_FIRST: &str = "1073741826";

/// Without its lock on the database, a service loses its write-ahead log to the next program that
/// opens and closes the database (`sqlite3 cardless.db`, a backup): that program takes itself for
/// the last one and deletes it, and what the service writes from then on is gone.
#[test]
fn an_open_store_keeps_its_lock_on_the_database() {
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("cardless.db");
    let url = format!("sqlite:{}", database.display());
    // As a service opens it that has run before: a writer and several readers of one file.
    drop(SqliteStore::open(&url, Threads::Own).unwrap());
    let store = SqliteStore::open(&url, Threads::Own).unwrap();
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else {
        println!("an_open_store_keeps_its_lock_on_the_database: skipped, there is no /proc/locks");
        return;
    };
    let inode = std::fs::metadata(&database).unwrap().ino();
    let ours = format!(":{inode} {SHARED_FIRST} ");
    assert!(locks.lines().any(|line| line.contains(&ours)), "{locks}");
    drop(store);
}
