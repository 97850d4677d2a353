//! Another body under the same CRC-32: what a forger makes of a genuine signature of PayPal's.

/// A body that ends with `end` behind a filler, and has the CRC-32 of `wanted`. `start` must leave
/// a JSON text open, since the filler is letters.
///
/// CRC-32 is linear: each letter of the filler that is turned from `a` to `c` changes the sum by an
/// amount of its own, whatever the others are. So 32 equations say which to turn.
pub(crate) fn body_with_crc_of(wanted: &[u8], start: &str, end: &str) -> Vec<u8> {
    const FILLER: usize = 64;
    let mut body = [start.as_bytes(), &[b'a'; FILLER], end.as_bytes()].concat();
    let plain = crc32fast::hash(&body);
    let mut target = plain ^ crc32fast::hash(wanted);
    // Each row: what a set of letters changes, and the set.
    let mut rows: Vec<(u32, u64)> = Vec::new();
    for letter in 0..FILLER {
        let place = start.len() + letter;
        body[place] ^= 2;
        let mut row = (crc32fast::hash(&body) ^ plain, 1_u64 << letter);
        body[place] ^= 2;
        for known in &rows {
            if row.0 ^ known.0 < row.0 {
                row = (row.0 ^ known.0, row.1 ^ known.1);
            }
        }
        if row.0 != 0 {
            rows.push(row);
            rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.0));
        }
    }
    let mut turned = 0;
    for (change, letters) in rows {
        if target ^ change < target {
            target ^= change;
            turned ^= letters;
        }
    }
    assert_eq!(target, 0, "the letters span all sums");
    for letter in (0..FILLER).filter(|letter| turned >> letter & 1 == 1) {
        body[start.len() + letter] ^= 2;
    }
    assert_eq!(crc32fast::hash(&body), crc32fast::hash(wanted));
    body
}
