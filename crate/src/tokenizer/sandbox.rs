//! What minijinja's fuel leaves open: lists that hold each other, or are added to themselves, double without being paid
//! for, and take all memory, or forever to compare, some thirty doublings later. The instructions that make lists are
//! put in the hands of functions that count what is in them.

use std::sync::Arc;

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State,
    machinery::{self, CompiledTemplate, Instruction, TemplateConfig, Token, make_string_output},
    value::{Rest, Tuple, Value, ValueKind},
};

/// Names that no template can write.
const ADD: &str = "@add";
const LIST: &str = "@list";
const TUPLE: &str = "@tuple";
const MAP: &str = "@map";

/// Everything in a list, with what is in its items.
const MOST_ITEMS: usize = 20_000;
/// Of lists inside each other.
const DEEPEST: usize = 32;

/// Names, signs and numbers in one tag, and alternatives in all: the compiler goes as deep as these are chained.
const MOST_TOKENS: usize = 1000;
const MOST_ALTERNATIVES: usize = 200;

/// Makes ready for [`render`].
pub(super) fn prepare(environment: &mut Environment<'_>) {
    environment.add_function(ADD, add);
    environment.add_function(LIST, |state: &State<'_, '_>, items: Rest<Value>| counted(state, Value::from(items.0)));
    environment.add_function(TUPLE, |state: &State<'_, '_>, items: Rest<Value>| {
        counted(state, Value::from(Tuple::from(items.0)))
    });
    environment.add_function(MAP, |state: &State<'_, '_>, items: Rest<Value>| {
        let pairs = items.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        counted(state, Value::from_pairs(pairs))
    });
    // Not Jinja's; they too put lists together unpaid.
    environment.remove_filter("chain");
    environment.remove_filter("zip");
    environment.set_unknown_method_callback(|state, value, method, arguments| {
        // Its widths are not paid for.
        if method == "format" {
            return Err(Error::from(ErrorKind::UnknownMethod));
        }
        minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
    });
}

pub(super) fn compile<'a>(
    environment: &Environment<'_>,
    name: &'a str,
    source: &'a str,
) -> Result<CompiledTemplate<'a>, Error> {
    let config = TemplateConfig {
        syntax_config: environment.syntax().clone(),
        default_auto_escape: Arc::new(|_| AutoEscape::None),
    };
    measured(source, &config)?;
    let mut compiled = CompiledTemplate::new(name, source, &config)?;
    let call = |name, arguments: usize| Some(Instruction::CallFunction(name, Some(u16::try_from(arguments).ok()?)));
    for at in 0.. {
        let Some(instruction) = compiled.instructions.get_mut(at) else { break };
        let counted = match instruction {
            Instruction::Add => call(ADD, 2),
            Instruction::BuildList(Some(items)) => call(LIST, *items),
            Instruction::BuildTuple(Some(items)) => call(TUPLE, *items),
            Instruction::BuildMap(pairs) => call(MAP, *pairs * 2),
            _ => None,
        };
        if let Some(counted) = counted {
            *instruction = counted;
        }
    }
    Ok(compiled)
}

/// Refuses what would take the compiler's stack.
fn measured(source: &str, config: &TemplateConfig) -> Result<(), Error> {
    let (mut tokens, mut alternatives) = (0, 0);
    for token in machinery::tokenize(source, false, config.syntax_config.clone()) {
        match token?.0 {
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart => tokens = 0,
            Token::Ident("elif") => alternatives += 1,
            _ => tokens += 1,
        }
        if tokens > MOST_TOKENS || alternatives > MOST_ALTERNATIVES {
            return Err(Error::new(ErrorKind::SyntaxError, "an expression or a choice of too many parts"));
        }
    }
    Ok(())
}

pub(super) fn render(environment: &Environment<'_>, name: &str, source: &str, context: Value) -> Result<String, Error> {
    let compiled = compile(environment, name, source)?;
    let mut text = String::new();
    let mut output = make_string_output(&mut text);
    machinery::eval(
        environment,
        &compiled.instructions,
        context,
        &compiled.blocks,
        &mut output,
        compiled.initial_auto_escape.clone(),
    )?;
    drop(output);
    Ok(text)
}

/// Jinja's `+`.
fn add(state: &State<'_, '_>, left: Value, right: Value) -> Result<Value, Error> {
    let listed = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if let (Some(left), Some(right)) = (left.as_str(), right.as_str()) {
        state.consume_fuel((left.len() + right.len()) as u64 / 64)?;
        return Ok(Value::from([left, right].concat()));
    }
    if listed(&left) && listed(&right) {
        let mut items = Vec::new();
        for item in left.try_iter()?.chain(right.try_iter()?) {
            if items.len() == MOST_ITEMS {
                return Err(Error::from(ErrorKind::OutOfFuel));
            }
            items.push(item);
        }
        return counted(state, Value::from(items));
    }
    if let (ValueKind::Number | ValueKind::Bool, ValueKind::Number | ValueKind::Bool) = (left.kind(), right.kind()) {
        let whole =
            |value: &Value| (!value.is_number() || value.is_integer()).then(|| i128::try_from(value.clone()).ok());
        if let Some((left, right)) = whole(&left).flatten().zip(whole(&right).flatten()) {
            let sum = left.checked_add(right);
            return sum
                .map(Value::from)
                .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "a sum beyond all bounds"));
        }
        return Ok(Value::from(f64::try_from(left)? + f64::try_from(right)?));
    }
    let message = format!("tried to add {} and {}", left.kind(), right.kind());
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// The value, paid for with all that is in it.
fn counted(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    let mut items = 0;
    count(&value, 0, &mut items)?;
    state.consume_fuel(1 + items as u64 / 16)?;
    Ok(value)
}

fn count(value: &Value, depth: usize, items: &mut usize) -> Result<(), Error> {
    let map = value.kind() == ValueKind::Map;
    if !map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(());
    }
    for item in value.try_iter()? {
        *items += 1;
        if depth == DEEPEST || *items > MOST_ITEMS {
            return Err(Error::from(ErrorKind::OutOfFuel));
        }
        if map {
            count(&value.get_item(&item)?, depth + 1, items)?;
        } else {
            count(&item, depth + 1, items)?;
        }
    }
    Ok(())
}
