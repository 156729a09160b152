//! The tree of columns with the levels by which Parquet tells where a list or a missing value begins.

use std::ops::Range;

use serde_json::Value;

use super::footer::{Element, Footer, Meaning, Physical, Repetition};
use super::{Read, damaged};

/// Lists and structures in each other. JSON of that depth is still read again.
const DEEPEST: usize = 32;

pub struct Schema {
    pub roots: Vec<Node>,
    pub leaves: Vec<Leaf>,
}

/// A column as a person sees it, or a part of one.
pub struct Node {
    pub name: String,
    /// Whether it may be missing: where the definition level is below `def`.
    pub optional: bool,
    pub def: u8,
    /// The leaves in it.
    pub leaves: Range<usize>,
    pub kind: Kind,
}

pub enum Kind {
    Leaf,
    Struct(Vec<Node>),
    /// An element stands where the definition level is at least `def`; it goes on the list where its repetition level is at
    /// least `rep`.
    List {
        element: Box<Node>,
        def: u8,
        rep: u8,
    },
    /// The same with keys and values.
    Map {
        key: Box<Node>,
        value: Box<Node>,
        def: u8,
        rep: u8,
    },
}

/// Values that are stored together.
pub struct Leaf {
    /// Names from the root, with dots.
    pub path: String,
    pub physical: Physical,
    pub length: usize,
    pub meaning: Meaning,
    /// The highest levels.
    pub def: u8,
    pub rep: u8,
    /// Whether it is a column of its own, whose cells are texts; JSON otherwise.
    pub flat: bool,
    /// Hugging Face's names of the classes that the values number.
    pub classes: Vec<String>,
}

impl Schema {
    /// Also holds the footer's parts to the columns it names.
    pub fn new(footer: &Footer) -> Read<Self> {
        let Some((root, elements)) = footer.schema.split_first() else { return damaged("it has no columns") };
        let mut tree = Tree { elements, leaves: Vec::new(), path: Vec::new() };
        let mut roots = Vec::new();
        for _ in 0..root.children {
            roots.push(tree.node(0, 0)?);
        }
        if !tree.elements.is_empty() || roots.is_empty() {
            return damaged("its columns are not as many as it says");
        }
        let mut leaves = tree.leaves;
        for root in roots.iter().filter(|root| matches!(root.kind, Kind::Leaf)) {
            leaves[root.leaves.clone()].iter_mut().for_each(|leaf| leaf.flat = true);
        }
        let features = footer.hugging_face.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(features) = features.as_ref().and_then(|value| value.get("info")?.get("features")) {
            for root in &roots {
                classes(features.get(&root.name), root, &mut leaves);
            }
        }
        for group in &footer.groups {
            let same =
                group.chunks.iter().map(|chunk| chunk.physical).eq(leaves.iter().map(|leaf| Some(leaf.physical)));
            if !same {
                return damaged("a part of it has other columns than the whole");
            }
        }
        Ok(Self { roots, leaves })
    }
}

struct Tree<'a> {
    /// Those that are not in the tree yet.
    elements: &'a [Element],
    leaves: Vec<Leaf>,
    path: Vec<&'a str>,
}

impl<'a> Tree<'a> {
    fn take(&mut self) -> Read<&'a Element> {
        let Some((element, rest)) = self.elements.split_first() else {
            return damaged("its columns are fewer than it says");
        };
        self.elements = rest;
        Ok(element)
    }

    /// The next element with all that is inside; the levels are those around it.
    fn node(&mut self, def: u8, rep: u8) -> Read<Node> {
        let element = self.take()?;
        match element.repetition {
            Repetition::Required => self.body(element, false, def, rep),
            Repetition::Optional => self.body(element, true, def + 1, rep),
            // A list that is not called one, which is never missing.
            Repetition::Repeated => {
                let inner = self.body(element, false, def + 1, rep + 1)?;
                let (name, leaves) = (inner.name.clone(), inner.leaves.clone());
                let kind = Kind::List { element: Box::new(inner), def: def + 1, rep: rep + 1 };
                Ok(Node { name, optional: false, def, leaves, kind })
            }
        }
    }

    /// One that is there where the definition level is at least `def`.
    fn body(&mut self, element: &'a Element, optional: bool, def: u8, rep: u8) -> Read<Node> {
        if self.path.len() == DEEPEST {
            return damaged(format!("its columns are more than {DEEPEST} deep"));
        }
        self.path.push(&element.name);
        let begin = self.leaves.len();
        let kind = match (element.physical, element.meaning) {
            (Some(physical), meaning) => {
                let (path, length) = (self.path.join("."), element.length);
                let classes = Vec::new();
                self.leaves.push(Leaf { path, physical, length, meaning, def, rep, flat: false, classes });
                Kind::Leaf
            }
            (None, Meaning::List) if element.children == 1 && self.repeats() => {
                let element = Box::new(self.element(&element.name, def + 1, rep + 1)?);
                Kind::List { element, def: def + 1, rep: rep + 1 }
            }
            (None, Meaning::Map) if element.children == 1 && self.repeats() => self.map(def + 1, rep + 1)?,
            (None, _) if element.children == 0 => {
                return damaged(format!("column `{}` has no type", self.path.join(".")));
            }
            (None, _) => {
                let mut fields = Vec::new();
                for _ in 0..element.children {
                    fields.push(self.node(def, rep)?);
                }
                Kind::Struct(fields)
            }
        };
        self.path.pop();
        Ok(Node { name: element.name.clone(), optional, def, leaves: begin..self.leaves.len(), kind })
    }

    /// Whether the next element is what a list or a map has in it.
    fn repeats(&self) -> bool {
        self.elements.first().is_some_and(|element| element.repetition == Repetition::Repeated)
    }

    /// What the list `name` has in it: by the rules of the format for newer and older writers.
    fn element(&mut self, name: &str, def: u8, rep: u8) -> Read<Node> {
        let inner = self.take()?;
        let wrapped = inner.children == 1
            && inner.name != "array"
            && inner.name.strip_suffix("_tuple") != Some(name)
            && self.elements.first().is_some_and(|only| only.repetition != Repetition::Repeated);
        if wrapped { self.node(def, rep) } else { self.body(inner, false, def, rep) }
    }

    fn map(&mut self, def: u8, rep: u8) -> Read<Kind> {
        let inner = self.take()?;
        match inner.children {
            // Keys alone are a set.
            1 => Ok(Kind::List { element: Box::new(self.node(def, rep)?), def, rep }),
            2 => {
                let (key, value) = (Box::new(self.node(def, rep)?), Box::new(self.node(def, rep)?));
                Ok(Kind::Map { key, value, def, rep })
            }
            _ => damaged(format!("column `{}` is no map", self.path.join("."))),
        }
    }
}

/// Gives leaves the names of their classes: `datasets` says `{"label": {"names": […], "_type": "ClassLabel"}}`, and of lists
/// and structures the same inside.
fn classes(feature: Option<&Value>, node: &Node, leaves: &mut [Leaf]) {
    let Some(feature) = feature else { return };
    let inside = feature.get("feature");
    match &node.kind {
        Kind::Leaf => {
            let names = feature.get("names").and_then(Value::as_array).filter(|_| feature["_type"] == "ClassLabel");
            let names = names.and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
            if let (Some(names), Some(leaf)) = (names, leaves.get_mut(node.leaves.start)) {
                leaf.classes = names;
            }
        }
        Kind::Struct(fields) => {
            // A sequence of structures is stored as a structure of lists.
            let inside = inside.unwrap_or(feature);
            fields.iter().for_each(|field| classes(inside.get(&field.name), field, leaves));
        }
        Kind::List { element, .. } => {
            classes(Some(inside.or_else(|| feature.get(0)).unwrap_or(feature)), element, leaves);
        }
        Kind::Map { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Meaning::{List, Map, Plain};
    use Repetition::{Optional, Repeated, Required};

    fn leaf(name: &str, repetition: Repetition) -> Element {
        Element { name: name.into(), physical: Some(Physical::Bytes), repetition, ..Element::default() }
    }

    fn group(name: &str, repetition: Repetition, children: usize, meaning: Meaning) -> Element {
        Element { name: name.into(), repetition, children, meaning, ..Element::default() }
    }

    fn schema(elements: Vec<Element>, hugging_face: Option<&str>) -> Read<Schema> {
        let mut schema = vec![group("schema", Required, 1, Plain)];
        schema.extend(elements);
        Schema::new(&Footer { schema, groups: Vec::new(), hugging_face: hugging_face.map(str::to_owned) })
    }

    fn shape(node: &Node) -> String {
        let inner = match &node.kind {
            Kind::Leaf => String::new(),
            Kind::Struct(fields) => format!("{{{}}}", fields.iter().map(shape).collect::<Vec<_>>().join(" ")),
            Kind::List { element, def, rep } => format!("[{} {def} {rep}]", shape(element)),
            Kind::Map { key, value, def, rep } => format!("<{} {} {def} {rep}>", shape(key), shape(value)),
        };
        format!("{}{}{}{inner}", node.name, if node.optional { "?" } else { "" }, node.def)
    }

    #[test]
    fn lists_of_newer_and_older_writers() {
        for (elements, expected) in [
            (
                vec![
                    group("l", Optional, 1, List),
                    group("list", Repeated, 1, Plain),
                    group("element", Optional, 2, Plain),
                    leaf("role", Optional),
                    leaf("content", Required),
                ],
                "l?1[element?3{role?4 content3} 2 1]",
            ),
            (vec![group("l", Required, 1, List), leaf("array", Repeated)], "l0[array1 1 1]"),
            (
                vec![group("l", Optional, 1, List), group("l_tuple", Repeated, 1, Plain), leaf("x", Optional)],
                "l?1[l_tuple2{x?3} 2 1]",
            ),
            (
                vec![
                    group("l", Optional, 1, List),
                    group("bag", Repeated, 2, Plain),
                    leaf("x", Optional),
                    leaf("y", Required),
                ],
                "l?1[bag2{x?3 y2} 2 1]",
            ),
            (vec![leaf("l", Repeated)], "l0[l1 1 1]"),
            (
                vec![
                    group("m", Optional, 1, Map),
                    group("key_value", Repeated, 2, Plain),
                    leaf("key", Required),
                    leaf("value", Optional),
                ],
                "m?1<key2 value?3 2 1>",
            ),
        ] {
            let schema = schema(elements, None).unwrap_or_else(|fault| panic!("{expected}: {fault:?}"));
            assert_eq!(shape(&schema.roots[0]), expected);
            assert_eq!(schema.roots[0].leaves, 0..schema.leaves.len());
            assert!(schema.leaves.iter().all(|leaf| !leaf.flat && leaf.rep == 1));
        }
    }

    #[test]
    fn trees_that_do_not_fit_are_damage() {
        let deep: Vec<Element> = (0..50).map(|_| group("g", Optional, 1, Plain)).collect();
        for elements in [
            vec![],
            vec![leaf("a", Required), leaf("b", Required)],
            vec![group("a", Required, 2, Plain), leaf("b", Required)],
            vec![group("a", Required, 0, Plain)],
            vec![group("m", Required, 1, Map), group("kv", Repeated, 3, Plain)],
            deep,
        ] {
            assert!(matches!(schema(elements, None), Err(super::super::Fault::Damaged(_))));
        }
    }

    #[test]
    fn classes_have_their_names() {
        let names = |elements, features: &str| {
            let json = format!("{{\"info\": {{\"features\": {{\"c\": {features}}}}}}}");
            let schema = schema(elements, Some(&json)).unwrap_or_else(|fault| panic!("{fault:?}"));
            schema.leaves.into_iter().map(|leaf| leaf.classes.join(",")).collect::<Vec<_>>()
        };
        let class = r#"{"names": ["neg", "pos"], "_type": "ClassLabel"}"#;
        assert_eq!(names(vec![leaf("c", Optional)], class), ["neg,pos"]);
        assert_eq!(names(vec![leaf("c", Optional)], r#"{"dtype": "string", "_type": "Value"}"#), [""]);
        assert_eq!(names(vec![leaf("d", Optional)], class), [""]);
        let list = || vec![group("c", Optional, 1, List), group("list", Repeated, 1, Plain), leaf("element", Optional)];
        assert_eq!(names(list(), &format!(r#"{{"feature": {class}, "_type": "List"}}"#)), ["neg,pos"]);
        assert_eq!(names(list(), &format!("[{class}]")), ["neg,pos"]);
        let mut fields = vec![group("c", Optional, 2, Plain)];
        fields.extend(list().into_iter().map(|mut element| {
            element.name = element.name.replace('c', "tags");
            element
        }));
        fields.push(leaf("text", Optional));
        let sequence = format!(r#"{{"feature": {{"tags": {class}, "text": {{}}}}, "_type": "Sequence"}}"#);
        assert_eq!(names(fields, &sequence), ["neg,pos", ""]);
    }
}
