//! Rows out of columns: the levels of each value say in which list and structure it stands.

use super::column::Column;
use super::schema::{Kind, Node, Schema};
use super::{Budget, Read, damaged};

/// A group's rows, one after the other.
pub struct Records<'a> {
    schema: &'a Schema,
    cursors: Vec<Cursor<'a>>,
    /// One text a column.
    cells: Vec<String>,
}

/// How far a column is read.
struct Cursor<'a> {
    column: &'a Column,
    /// The definition level of a value that is there.
    highest: u8,
    /// Values passed, and those of them that were there.
    at: usize,
    there: usize,
    /// Nothing of the row was read yet.
    fresh: bool,
}

impl<'a> Cursor<'a> {
    fn ended(&self) -> bool {
        self.at >= self.column.count()
    }

    fn rep(&self) -> u8 {
        self.column.rep.get(self.at).copied().unwrap_or_default()
    }

    fn def(&self) -> Read<u8> {
        if self.ended() {
            return damaged("a column ends before the others");
        }
        Ok(self.column.def.get(self.at).copied().unwrap_or(self.highest))
    }

    /// The value, none where it is missing; then stands before the next one.
    fn take(&mut self) -> Read<Option<&'a str>> {
        let def = self.def()?;
        // A row begins where the level is 0, and only there.
        if self.fresh != (self.rep() == 0) {
            return damaged("a column has another number of values in a list than the others");
        }
        self.fresh = false;
        self.at += 1;
        if def < self.highest {
            return Ok(None);
        }
        let text = self.column.text(self.there);
        self.there += 1;
        Ok(Some(text))
    }
}

impl<'a> Records<'a> {
    /// `columns` are the schema's leaves.
    pub fn new(schema: &'a Schema, columns: &'a [Column]) -> Self {
        let cursors = columns.iter().zip(&schema.leaves);
        let cursors =
            cursors.map(|(column, leaf)| Cursor { column, highest: leaf.def, at: 0, there: 0, fresh: true }).collect();
        Self { schema, cursors, cells: vec![String::new(); schema.roots.len()] }
    }

    /// The next row's cells: text as it is, JSON of lists and structures, nothing where nothing is.
    pub fn row(&mut self, budget: &mut Budget) -> Read<&[String]> {
        for cursor in &mut self.cursors {
            cursor.fresh = true;
        }
        for (root, cell) in self.schema.roots.iter().zip(&mut self.cells) {
            cell.clear();
            let mut row = Row { cursors: &mut self.cursors, out: cell, budget: &mut *budget };
            if row.missing(root)? {
                row.pass(root)?;
            } else {
                row.value(root)?;
            }
            for cursor in &self.cursors[root.leaves.clone()] {
                if cursor.fresh || (!cursor.ended() && cursor.rep() > 0) {
                    return damaged("a column has another number of values in a list than the others");
                }
            }
        }
        Ok(&self.cells)
    }

    /// Nothing may be left behind the last row.
    pub fn end(&self) -> Read<()> {
        if self.cursors.iter().all(Cursor::ended) { Ok(()) } else { damaged("a column has values for more rows") }
    }
}

struct Row<'a, 'b> {
    cursors: &'b mut [Cursor<'a>],
    out: &'b mut String,
    budget: &'b mut Budget,
}

impl Row<'_, '_> {
    fn put(&mut self, text: &str) -> Read<()> {
        self.budget.cells(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    fn cursor(&self, node: &Node) -> Read<&Cursor<'_>> {
        match self.cursors.get(node.leaves.start) {
            Some(cursor) => Ok(cursor),
            None => damaged("a column without values"),
        }
    }

    fn missing(&self, node: &Node) -> Read<bool> {
        Ok(node.optional && self.cursor(node)?.def()? < node.def)
    }

    /// One value of each leaf, none of which is there.
    fn pass(&mut self, node: &Node) -> Read<()> {
        for cursor in &mut self.cursors[node.leaves.clone()] {
            if cursor.take()?.is_some() {
                return damaged("a value stands where there is no structure for it");
            }
        }
        Ok(())
    }

    fn value(&mut self, node: &Node) -> Read<()> {
        if self.missing(node)? {
            self.pass(node)?;
            return self.put("null");
        }
        match &node.kind {
            Kind::Leaf => match self.cursors.get_mut(node.leaves.start).map(Cursor::take).transpose()?.flatten() {
                Some(text) => self.put(text),
                None => self.put("null"),
            },
            Kind::Struct(fields) => {
                self.put("{")?;
                let mut comma = "";
                for field in fields {
                    // A key that is not there has no value: files of JSON become structures with the keys of all their rows.
                    if self.missing(field)? {
                        self.pass(field)?;
                        continue;
                    }
                    self.put(comma)?;
                    self.put(&quoted(&field.name))?;
                    self.put(":")?;
                    self.value(field)?;
                    comma = ",";
                }
                self.put("}")
            }
            Kind::List { element, def, rep } => self.list(node, *def, *rep, ["[", "]"], |row| row.value(element)),
            Kind::Map { key, value, def, rep } => self.list(node, *def, *rep, ["{", "}"], |row| {
                let begin = row.out.len();
                row.value(key)?;
                if !row.out[begin..].starts_with('"') {
                    // Keys are texts in JSON.
                    row.out.insert(begin, '"');
                    row.put("\"")?;
                }
                row.put(":")?;
                row.value(value)
            }),
        }
    }

    fn list(
        &mut self,
        node: &Node,
        def: u8,
        rep: u8,
        ends: [&str; 2],
        mut element: impl FnMut(&mut Self) -> Read<()>,
    ) -> Read<()> {
        let [open, close] = ends;
        self.put(open)?;
        if self.cursor(node)?.def()? < def {
            self.pass(node)?;
            return self.put(close);
        }
        loop {
            element(self)?;
            let cursor = self.cursor(node)?;
            if cursor.ended() || cursor.rep() < rep {
                return self.put(close);
            }
            self.put(",")?;
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}
