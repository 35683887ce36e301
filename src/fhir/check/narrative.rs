//! The XHTML of a narrative (R4 txt-1 and txt-2, <https://hl7.org/fhir/R4/narrative.html>): formatting only, nothing that acts.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

const XHTML: &str = "http://www.w3.org/1999/xhtml";

/// Elements of HTML 4.0 chapters 7-11 and 15, `a` and `img`.
#[rustfmt::skip]
const ELEMENTS: &[&str] = &[
    "a", "abbr", "acronym", "address", "b", "bdo", "big", "blockquote", "br", "caption", "cite", "code", "col",
    "colgroup", "dd", "dfn", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd",
    "li", "ol", "p", "pre", "q", "samp", "small", "span", "strong", "sub", "sup", "table", "tbody", "td", "tfoot",
    "th", "thead", "tr", "tt", "ul", "var",
];

#[rustfmt::skip]
const ATTRIBUTES: &[&str] = &[
    "abbr", "align", "alt", "axis", "bgcolor", "border", "cellhalign", "cellpadding", "cellspacing", "cellvalign",
    "char", "charoff", "cite", "class", "colspan", "compact", "dir", "frame", "headers", "height", "href", "hspace",
    "id", "lang", "longdesc", "name", "noshade", "nowrap", "rel", "rev", "rowspan", "rules", "scope", "size",
    "span", "src", "start", "style", "summary", "title", "type", "valign", "value", "vspace", "width", "xml:id",
    "xml:lang", "xml:space", "xmlns",
];

/// More than HTML has; the reader compares every attribute with all before it.
const MOST_ATTRIBUTES: usize = 64;

/// Why a `div` is not the narrative R4 allows; nothing where it is.
pub(super) fn fault(div: &str) -> Option<String> {
    let mut reader = Reader::from_str(div);
    let (mut depth, mut content, mut begun) = (0usize, false, false);
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => {
                if let Some(fault) = element_fault(&start, depth, begun) {
                    return Some(fault);
                }
                (begun, depth) = (true, depth + 1);
            }
            Ok(Event::Empty(start)) => {
                if let Some(fault) = element_fault(&start, depth, begun) {
                    return Some(fault);
                }
                content |= start.name().as_ref() == "img";
                begun = true;
            }
            Ok(Event::End(_)) => depth = depth.saturating_sub(1),
            Ok(Event::Text(text)) => {
                let written = text.bytes().any(|b| !b.is_ascii_whitespace());
                if written && depth == 0 {
                    return Some("all of the narrative is inside one div".to_owned());
                }
                content |= written;
            }
            Ok(Event::GeneralRef(_) | Event::CData(_)) => content = true,
            Ok(Event::Comment(_)) => {}
            Ok(Event::Eof) if depth > 0 => return Some("the div is not closed".to_owned()),
            Ok(Event::Eof) => break,
            Ok(_) => return Some("a narrative has no declaration, DOCTYPE or processing instruction".to_owned()),
            Err(_) => return Some("the div is not well-formed XHTML".to_owned()),
        }
    }
    (!content).then(|| "a narrative needs some text (R4 rule txt-2)".to_owned())
}

fn element_fault(start: &BytesStart<'_>, depth: usize, begun: bool) -> Option<String> {
    let name = start.name();
    let name = name.as_ref();
    if depth == 0 && (name != "div" || begun) {
        return Some("a narrative is one div element".to_owned());
    }
    if ELEMENTS.binary_search(&name).is_err() {
        return Some("only formatting elements, a and img are allowed: no script, form, frame, object, head or style (R4 rule txt-1)".to_owned());
    }
    let mut xhtml = false;
    for (position, attribute) in start.attributes().enumerate() {
        let Some(attribute) = attribute.ok().filter(|_| position < MOST_ATTRIBUTES) else {
            return Some("the div is not well-formed XHTML".to_owned());
        };
        let key = attribute.key.as_ref();
        if ATTRIBUTES.binary_search(&key).is_err() {
            return Some("only formatting attributes are allowed: no event handlers (R4 rule txt-1)".to_owned());
        }
        if matches!(key, "href" | "src") && acts(&attribute.value) {
            return Some("links cannot hold script (R4 rule txt-1)".to_owned());
        }
        if key == "xmlns" {
            xhtml = attribute.value.as_ref() == XHTML;
            if !xhtml {
                return Some("the only namespace is http://www.w3.org/1999/xhtml".to_owned());
            }
        }
    }
    (depth == 0 && !xhtml).then(|| "the div needs xmlns=\"http://www.w3.org/1999/xhtml\"".to_owned())
}

/// Whether a link runs script when followed. Spaces, control characters and references could hide the scheme, so a
/// scheme that has any of them counts too.
fn acts(link: &str) -> bool {
    let link = link.as_bytes();
    let Some(colon) = link.iter().position(|b| *b == b':') else { return false };
    let scheme = &link[..colon];
    let before_path = !scheme.iter().any(|b| matches!(b, b'/' | b'?'));
    let hidden = scheme.iter().any(|b| *b <= b' ' || *b == b'&');
    before_path && (hidden || scheme.eq_ignore_ascii_case(b"javascript") || scheme.eq_ignore_ascii_case(b"vbscript"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn div(inner: &str) -> String {
        format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{inner}</div>")
    }

    #[test]
    fn formatting_is_allowed() {
        for inner in [
            "text",
            "<p class=\"x\">a <b>b</b><br/>&amp; &nbsp;</p>",
            "<table><tr><td colspan=\"2\">1</td></tr></table>",
            "<a href=\"https://example.org/a?b:c\">x</a>",
            "<img src=\"#p1\" alt=\"x\"/>",
        ] {
            assert_eq!(fault(&div(inner)), None, "{inner}");
        }
        assert!(ELEMENTS.is_sorted() && ATTRIBUTES.is_sorted());
    }

    #[test]
    fn nothing_that_acts_is_allowed() {
        for inner in [
            "<script>1</script>",
            "<p onclick=\"x()\">a</p>",
            "<a href=\"javascript:x\">a</a>",
            "<a href=\"java&#115;cript:x\">a</a>",
            "<form>a</form>",
            "<iframe src=\"x\">a</iframe>",
            "<a href=\" JavaScript:x\">a</a>",
            "<style>p{}</style>",
            "<p>a<b></p>",
            "<p>a",
            "",
            "  ",
            "<p a=1>x</p>",
        ] {
            assert!(fault(&div(inner)).is_some(), "{inner}");
        }
        for whole in [
            "text",
            "<p>text</p>",
            "<div>text</div>",
            "",
            "<div xmlns=\"http://www.w3.org/1999/xhtml\">a",
            "<!DOCTYPE html><div xmlns=\"http://www.w3.org/1999/xhtml\">a</div>",
        ] {
            assert!(fault(whole).is_some(), "{whole}");
        }
        assert!(fault(&format!("{}{}", div("a"), div("b"))).is_some());
    }
}
