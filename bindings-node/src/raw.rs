//! The functions that are called for every request, on Node-API itself: what a call costs is most of what they cost.
//!
//! Nothing is decided here. This is the only file without the compiler's guard.
#![expect(unsafe_code, reason = "Node-API is a C interface")]

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr;

use napi::bindgen_prelude::{FromNapiValue, JsObjectValue, Object, Result, TypeName, ValidateNapiValue};
use napi::{Env, Error, Status, ValueType, sys};
use napi_derive::napi;
use quotum::UNITS_MAX;

use crate::decide::{Asked, Asker, Told, authenticate, decide, pace};
use crate::home::Home;
use crate::outcome::panicked;
use crate::wire::Key;

/// The numbers of a `Float64Array` of the package's, which lives as long as its home.
pub(crate) struct Numbers {
    first: *mut f64,
    len: usize,
}

impl FromNapiValue for Numbers {
    /// Keeps the array for ever: there is one for each copy of the package.
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> Result<Self> {
        let (mut kind, mut len, mut first) = (0, 0, ptr::null_mut());
        let (mut buffer, mut offset, mut reference) = (ptr::null_mut(), 0, ptr::null_mut());
        // SAFETY: the value is of this environment, and every pointer is to a local.
        let status = unsafe {
            match sys::napi_get_typedarray_info(
                env,
                value,
                &raw mut kind,
                &raw mut len,
                &raw mut first,
                &raw mut buffer,
                &raw mut offset,
            ) {
                sys::Status::napi_ok => sys::napi_create_reference(env, value, 1, &raw mut reference),
                failed => failed,
            }
        };
        if status != sys::Status::napi_ok || kind != sys::TypedarrayType::float64_array || first.is_null() {
            return Err(Error::new(Status::InvalidArg, "expected a Float64Array"));
        }
        Ok(Self { first: first.cast(), len })
    }
}

impl TypeName for Numbers {
    fn type_name() -> &'static str {
        "Float64Array"
    }

    fn value_type() -> ValueType {
        ValueType::Object
    }
}

impl ValidateNapiValue for Numbers {}

impl Numbers {
    /// A whole number that JavaScript holds exactly, where there is one in this place.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "checked")]
    pub(crate) fn units(&self, place: usize) -> Option<u64> {
        if place >= self.len {
            return None;
        }
        // SAFETY: it is within the array, which a reference keeps and nobody detaches, and only this thread writes it.
        let number = unsafe { self.first.add(place).read() };
        (number.fract() == 0.0 && (0.0..=UNITS_MAX as f64).contains(&number)).then_some(number as u64)
    }

    /// Writes from the second place on: the first says what was told.
    pub(crate) const fn writer(&self) -> Writer<'_> {
        Writer { numbers: self, next: 1 }
    }

    fn put(&self, place: usize, number: f64) -> Option<()> {
        if place >= self.len {
            return None;
        }
        // SAFETY: as in `units`.
        unsafe { self.first.add(place).write(number) };
        Some(())
    }
}

/// Writes one number after the other; `None` where there is no room.
pub(crate) struct Writer<'n> {
    numbers: &'n Numbers,
    next: usize,
}

impl Writer<'_> {
    pub(crate) fn put(&mut self, number: f64) -> Option<()> {
        self.numbers.put(self.next, number)?;
        self.next += 1;
        Some(())
    }

    /// Units, or -1 for none.
    #[expect(clippy::cast_precision_loss, reason = "units are numbers that JavaScript holds exactly")]
    pub(crate) fn units(&mut self, units: Option<u64>) -> Option<()> {
        self.put(units.map_or(-1.0, |units| units as f64))
    }

    pub(crate) fn count(&mut self, count: usize) -> Option<()> {
        self.units(u64::try_from(count).ok())
    }
}

/// The arguments of a call.
struct Arguments<'c, const N: usize> {
    env: sys::napi_env,
    values: [sys::napi_value; N],
    call: PhantomData<&'c ()>,
}

impl<const N: usize> Arguments<'_, N> {
    /// # Safety
    ///
    /// Both are of the call that is under way.
    unsafe fn of(env: sys::napi_env, info: sys::napi_callback_info) -> Self {
        let mut values = [ptr::null_mut(); N];
        let mut count = N;
        // SAFETY: there is room for as many values as `count` says. Those that were not given are undefined.
        unsafe {
            sys::napi_get_cb_info(env, info, &raw mut count, values.as_mut_ptr(), ptr::null_mut(), ptr::null_mut());
        }
        Self { env, values, call: PhantomData }
    }

    fn value(&self, place: usize) -> sys::napi_value {
        self.values.get(place).copied().unwrap_or(ptr::null_mut())
    }

    /// A number of the package's; 0 for anything else.
    fn number(&self, place: usize) -> u32 {
        let mut number = 0;
        // SAFETY: the value is one of this call's.
        unsafe { sys::napi_get_value_uint32(self.env, self.value(place), &raw mut number) };
        number
    }

    /// Does something with a text, which short ones are not allocated for; `None` for anything else.
    fn with_text<T>(&self, place: usize, act: impl FnOnce(&str) -> T) -> Option<T> {
        const SHORT: usize = 1_024;
        let (mut short, mut len) = ([0_u8; SHORT], 0);
        let value = self.value(place);
        // SAFETY: the buffer has room for SHORT bytes, of which the last is a zero; not more than that is written.
        let status =
            unsafe { sys::napi_get_value_string_utf8(self.env, value, short.as_mut_ptr().cast(), SHORT, &raw mut len) };
        if status != sys::Status::napi_ok {
            return None;
        }
        // One that fills it may have been cut off.
        if len < SHORT - 4 {
            return std::str::from_utf8(short.get(..len)?).ok().map(act);
        }
        let mut whole = 0;
        // SAFETY: without a buffer, only the length is told.
        unsafe { sys::napi_get_value_string_utf8(self.env, value, ptr::null_mut(), 0, &raw mut whole) };
        let mut text = vec![0_u8; whole + 1];
        // SAFETY: the buffer has room for the text and the zero after it.
        unsafe {
            sys::napi_get_value_string_utf8(self.env, value, text.as_mut_ptr().cast(), whole + 1, &raw mut len);
        }
        text.truncate(len);
        std::str::from_utf8(&text).ok().map(act)
    }

    fn text(&self, text: &str) -> sys::napi_value {
        let mut value = ptr::null_mut();
        let len = isize::try_from(text.len()).unwrap_or(0);
        // SAFETY: the text is as long as said.
        unsafe { sys::napi_create_string_utf8(self.env, text.as_ptr().cast(), len, &raw mut value) };
        value
    }

    fn told(&self, home: &Home, told: Told) -> sys::napi_value {
        home.numbers.put(0, told.tag());
        match told {
            Told::Unknown | Told::Decided => ptr::null_mut(),
            Told::DecidedFor(subject) => self.text(&subject),
            Told::Denied(message) => self.text(&message),
            Told::Outcome(outcome) => self.text(&String::from(outcome)),
            Told::Pending(task) => {
                let mut value = ptr::null_mut();
                // SAFETY: the environment is this call's.
                unsafe { sys::napi_create_uint32(self.env, task, &raw mut value) };
                value
            }
        }
    }
}

/// Nothing that panics goes on to JavaScript.
fn guarded(act: impl FnOnce() -> Told) -> Told {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).unwrap_or_else(|_| Told::Outcome(panicked()))
}

const IS_TOKEN: u32 = 1;
const IS_HANDLE: u32 = 2;
const IS_LOOK: u32 = 4;
const MAY_ASK: u32 = 8;
const HAS_SCOPE: u32 = 16;

/// `decide(home, engine, who, how, scope, costs)`.
unsafe extern "C" fn decide_raw(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls with both of the call.
    let arguments = unsafe { Arguments::<6>::of(env, info) };
    let Ok(home) = Home::of(arguments.number(0)) else { return ptr::null_mut() };
    let how = arguments.number(3);
    let asked = Asked {
        engine: arguments.number(1),
        costs: arguments.number(5) as usize,
        scope: (how & HAS_SCOPE != 0).then(|| arguments.number(4) as usize),
        is_look: how & IS_LOOK != 0,
        may_ask: how & MAY_ASK != 0,
    };
    let told = if how & IS_HANDLE != 0 {
        guarded(|| decide(&home, &Asker::Handle(arguments.number(2)), &asked))
    } else {
        let with = |text: &str| {
            let asker = if how & IS_TOKEN != 0 { Asker::Token(text) } else { Asker::Subject(text) };
            guarded(|| decide(&home, &asker, &asked))
        };
        arguments.with_text(2, with).unwrap_or_else(|| Told::Outcome(panicked()))
    };
    arguments.told(&home, told)
}

/// `authenticate(home, engine, token)`.
unsafe extern "C" fn authenticate_raw(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls with both of the call.
    let arguments = unsafe { Arguments::<3>::of(env, info) };
    let Ok(home) = Home::of(arguments.number(0)) else { return ptr::null_mut() };
    let engine = arguments.number(1);
    let found = arguments.with_text(2, |token| guarded(|| authenticate(&home, engine, token)));
    arguments.told(&home, found.unwrap_or_else(|| Told::Outcome(panicked())))
}

/// `pace(home, engine, scope, key, isAddress)`, with the cost as the first of the numbers.
unsafe extern "C" fn pace_raw(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node-API calls with both of the call.
    let arguments = unsafe { Arguments::<5>::of(env, info) };
    let Ok(home) = Home::of(arguments.number(0)) else { return ptr::null_mut() };
    let (engine, scope) = (arguments.number(1), arguments.number(2) as usize);
    let is_address = arguments.number(4) != 0;
    let paced = arguments.with_text(3, |text| {
        let text = text.to_owned();
        let key = if is_address { Key::Address { ip: text } } else { Key::Text(text) };
        // A number that is none cannot be: the package has checked it.
        guarded(|| pace(&home, engine, scope, key, home.numbers.units(0).unwrap_or(0)))
    });
    arguments.told(&home, paced.unwrap_or_else(|| Told::Outcome(panicked())))
}

type Callback = unsafe extern "C" fn(sys::napi_env, sys::napi_callback_info) -> sys::napi_value;

#[napi(module_exports)]
pub(crate) fn export(mut exports: Object<'_>, env: Env) -> Result<()> {
    let functions: [(&str, Callback); 3] =
        [("decide", decide_raw), ("authenticate", authenticate_raw), ("pace", pace_raw)];
    for (name, callback) in functions {
        let mut function = ptr::null_mut();
        let len = isize::try_from(name.len()).unwrap_or(0);
        // SAFETY: the name is as long as said, and the callback has nothing but its arguments.
        let status = unsafe {
            let data = ptr::null_mut::<c_void>();
            sys::napi_create_function(env.raw(), name.as_ptr().cast(), len, Some(callback), data, &raw mut function)
        };
        if status != sys::Status::napi_ok {
            return Err(Error::new(Status::GenericFailure, "a function could not be made"));
        }
        // SAFETY: it was made just now, in this environment.
        exports.set_named_property(name, unsafe { Object::from_napi_value(env.raw(), function)? })?;
    }
    Ok(())
}
