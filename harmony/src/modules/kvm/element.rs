//! A small XML document tree, serialised by quick-xml: a closing tag cannot be wrong and every text and
//! attribute is escaped.

use quick_xml::Writer;
use quick_xml::escape::partial_escape;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};

/// What most documents take, so that they are written in one piece.
const DOCUMENT_BYTES: usize = 16 * 1024;

/// What most start tags take.
const TAG_BYTES: usize = 80;

/// An element with attributes, and with either children or text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    name: &'static str,
    start: BytesStart<'static>,
    text: Option<String>,
    children: Vec<Element>,
}

impl Element {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            start: BytesStart::new(name),
            text: None,
            children: Vec::new(),
        }
    }

    /// An element that holds only text.
    pub(super) fn text(name: &'static str, text: impl ToString) -> Self {
        Self {
            text: Some(text.to_string()),
            ..Self::new(name)
        }
    }

    /// An attribute whose value is written here.
    #[must_use]
    pub(super) fn attr(mut self, name: &'static str, value: &str) -> Self {
        if self.start.len() == self.name.len() {
            let mut tag = String::with_capacity(TAG_BYTES);
            tag.push_str(self.name);
            self.start = BytesStart::from_content(tag, self.name.len());
        }
        self.start.push_attribute((name, value));
        self
    }

    /// An attribute with a value of the machine's.
    #[must_use]
    pub(super) fn attr_of(self, name: &'static str, value: impl ToString) -> Self {
        self.attr(name, &value.to_string())
    }

    /// Adds a child; an element made with text becomes one with children.
    #[must_use]
    pub(super) fn child(mut self, child: Self) -> Self {
        self.text = None;
        self.children.push(child);
        self
    }

    #[must_use]
    pub(super) fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        if !self.children.is_empty() {
            self.text = None;
        }
        self
    }

    /// The document, indented by two spaces, with a final line end.
    pub(super) fn to_document(&self) -> std::io::Result<String> {
        let mut writer = Writer::new_with_indent(Vec::with_capacity(DOCUMENT_BYTES), b' ', 2);
        self.write(&mut writer)?;
        let mut bytes = writer.into_inner();
        bytes.push(b'\n');
        String::from_utf8(bytes).map_err(std::io::Error::other)
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let start = self.start.borrow();
        if self.text.is_none() && self.children.is_empty() {
            return writer.write_event(Event::Empty(start));
        }
        writer.write_event(Event::Start(start))?;
        for child in &self.children {
            child.write(writer)?;
        }
        if let Some(text) = &self.text {
            // Quotes stand for themselves in text, and JSON is full of them.
            writer.write_event(Event::Text(BytesText::from_escaped(partial_escape(text))))?;
        }
        writer.write_event(Event::End(BytesEnd::new(self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::Element;

    #[test]
    fn escapes_and_indents() {
        let document = Element::new("a")
            .attr("q", "x\"<&>'")
            .child(Element::text("b", "1 < 2 & 3"))
            .child(Element::new("c"))
            .to_document()
            .expect("serialisable");
        assert_eq!(
            document,
            "<a q=\"x&quot;&lt;&amp;&gt;&apos;\">\n  <b>1 &lt; 2 &amp; 3</b>\n  <c/>\n</a>\n"
        );
    }
}
