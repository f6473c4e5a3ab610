//! What is told once for as long as it stays the same.

/// What was told last.
#[derive(Debug, Default)]
pub struct Told(Option<String>);

impl Told {
    /// Whether `trouble` is another than was told last, `None` being its end. It is taken for told.
    pub fn is_news(&mut self, trouble: Option<&str>) -> bool {
        let is_news = self.0.as_deref() != trouble;
        self.0 = trouble.map(str::to_owned);
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::Told;

    #[test]
    fn what_stays_the_same_is_told_once() {
        let mut told = Told::default();
        let troubles = [None, Some("a"), Some("a"), Some("b"), None, None, Some("b")];
        let news = troubles.map(|trouble| told.is_news(trouble));
        assert_eq!(news, [false, true, false, true, true, false, true]);
    }
}
