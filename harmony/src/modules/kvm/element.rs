//! A small XML document tree, serialised by quick-xml: a closing tag cannot be wrong and every text and
//! attribute is escaped.

use std::borrow::Cow;

use quick_xml::Writer;
use quick_xml::escape::partial_escape;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};

/// What most documents take, so that they are written in one piece.
const DOCUMENT_BYTES: usize = 16 * 1024;

/// An element with attributes and either children or text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, Cow<'static, str>)>,
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Children(Vec<Element>),
    Text(String),
}

impl Element {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            attributes: Vec::new(),
            content: Content::Children(Vec::new()),
        }
    }

    /// An element that holds only text.
    pub(super) fn text(name: &'static str, text: impl ToString) -> Self {
        Self {
            content: Content::Text(text.to_string()),
            ..Self::new(name)
        }
    }

    /// An attribute whose value is written here.
    #[must_use]
    pub(super) fn attr(mut self, name: &'static str, value: &'static str) -> Self {
        self.attributes.push((name, Cow::Borrowed(value)));
        self
    }

    /// An attribute with a value of the machine's.
    #[must_use]
    pub(super) fn attr_of(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, Cow::Owned(value.to_string())));
        self
    }

    /// Adds a child; an element made with text becomes one with children.
    #[must_use]
    pub(super) fn child(self, child: Self) -> Self {
        self.children([child])
    }

    #[must_use]
    pub(super) fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        let mut all = match self.content {
            Content::Children(all) => all,
            Content::Text(_) => Vec::new(),
        };
        all.extend(children);
        self.content = Content::Children(all);
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

    /// The start tag, in a buffer that it fits unless much of it has to be escaped.
    fn start(&self) -> BytesStart<'static> {
        let attributes = self.attributes.iter();
        let sizes = attributes.map(|(name, value)| name.len() + value.len() + 4);
        let mut buffer = String::with_capacity(self.name.len() + sizes.sum::<usize>());
        buffer.push_str(self.name);
        let attributes = self.attributes.iter().map(|(k, v)| (*k, v.as_ref()));
        BytesStart::from_content(buffer, self.name.len()).with_attributes(attributes)
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let start = self.start();
        match &self.content {
            Content::Children(children) if children.is_empty() => {
                writer.write_event(Event::Empty(start))
            }
            Content::Children(children) => {
                writer.write_event(Event::Start(start))?;
                for child in children {
                    child.write(writer)?;
                }
                writer.write_event(Event::End(BytesEnd::new(self.name)))
            }
            Content::Text(text) => {
                writer.write_event(Event::Start(start))?;
                // Quotes stand for themselves in text, and JSON is full of them.
                writer.write_event(Event::Text(BytesText::from_escaped(partial_escape(text))))?;
                writer.write_event(Event::End(BytesEnd::new(self.name)))
            }
        }
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
