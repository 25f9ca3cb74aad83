//! Contents of messages.

/// Length of what `{"content":""}` adds to a text.
const FRAME: usize = r#"{"content":""}"#.len();
/// Length of the pool that texts are cut from.
const POOL: usize = 1 << 17;

/// Texts of any length that compress about as well as what people write.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    pool: std::sync::Arc<str>,
    state: u64,
}

impl Texts {
    pub(crate) fn new(seed: u64) -> Self {
        let mut texts = Self { pool: "".into(), state: seed | 1 };
        let mut pool = String::with_capacity(POOL + 16);
        while pool.len() < POOL {
            for _ in 0..texts.below(4) + 1 {
                let consonant = b"bcdfghjklmnprstvwz"[texts.below(18)];
                let vowel = b"aeiou"[texts.below(5)];
                pool.extend([char::from(consonant), char::from(vowel)]);
            }
            pool.push(' ');
        }
        texts.pool = pool.into();
        texts
    }

    /// The same pool, read in another order.
    pub(crate) fn fork(&self, seed: u64) -> Self {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { pool: std::sync::Arc::clone(&self.pool), state }
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % limit.max(1) as u64) as usize
    }

    /// Content of a text message, `bytes` long (at least as long as that of an empty one).
    pub(crate) fn content(&mut self, bytes: usize) -> String {
        let text = bytes.saturating_sub(FRAME).min(POOL);
        let from = self.below(POOL - text + 1);
        format!(r#"{{"content":"{}"}}"#, self.pool.get(from..from + text).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_have_the_length_asked_for() {
        let mut texts = Texts::new(1).fork(2);
        for bytes in [FRAME, 100, 700, 60_000] {
            assert_eq!(texts.content(bytes).len(), bytes);
        }
        assert_ne!(texts.content(700), texts.content(700));
    }
}
