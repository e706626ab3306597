package api

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxBody bounds a control request.
const maxBody = 64 << 10

// errTooLarge is answered with 413.
var errTooLarge = errors.New("too large")

// errEmpty is for handlers that need no body.
var errEmpty error = &badRequest{"body: empty: want JSON"}

// read decodes the body of a control request. Unlike encoding/json it takes no key
// twice, none in another case, and nothing after the value: what rolls releases back
// must not mean one thing to who wrote it and another to us.
func read(w http.ResponseWriter, r *http.Request, v any) error {
	return readUpTo(w, r, maxBody, v)
}

func readUpTo(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return fmt.Errorf("body: %w: want at most %d bytes", errTooLarge, limit)
	} else if err != nil {
		return &badRequest{fmt.Sprintf("body: %v", err)}
	}
	err = decode(data, v)
	if err == nil || errors.Is(err, errEmpty) {
		return err
	}
	return &badRequest{err.Error()}
}

// decode reads the one JSON value of data into v, or says which field has which fault.
func decode(data []byte, v any) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errEmpty
	}
	if !utf8.Valid(data) {
		return errors.New("body: bytes that are no UTF-8: want JSON in UTF-8")
	}
	var raw json.RawMessage // checks the syntax of all of it
	if err := json.Unmarshal(data, &raw); err != nil {
		if at := new(json.SyntaxError); errors.As(err, &at) {
			return fmt.Errorf("body: byte %d: %w: want one JSON value", at.Offset, err)
		}
		return fmt.Errorf("body: %w: want one JSON value", err)
	}
	c := checker{json.NewDecoder(bytes.NewReader(data))}
	c.dec.UseNumber()
	if err := c.value("", reflect.TypeOf(v)); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("body: %w", err) // of a type that reads itself
	}
	return nil
}

// checker walks a value whose syntax is good beside the type that it is for.
type checker struct{ dec *json.Decoder }

// value checks the next value. Of a type that is nil everything is taken.
func (c checker) value(path string, t reflect.Type) error {
	for t != nil && t.Kind() == reflect.Pointer && !readsItself(t) {
		t = t.Elem()
	}
	moment := t == reflect.TypeFor[time.Time]()
	if t != nil && (t.Kind() == reflect.Interface || readsItself(t)) {
		t = nil
	}
	token, err := c.dec.Token()
	if err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if moment && token != nil {
		shown := fmt.Sprint(token)
		text, ok := token.(string)
		if ok {
			shown, ok = strconv.Quote(text), new(time.Time).UnmarshalText([]byte(text)) == nil
		}
		if !ok {
			return fmt.Errorf("%s: %s: want a time by RFC 3339, such as \"2026-01-05T08:00:00Z\"", path, shorten(shown))
		}
	}
	switch v := token.(type) {
	case json.Delim:
		if v == '[' {
			return c.list(path, t)
		}
		return c.object(path, t)
	case string:
		return want(path, strconv.Quote(v), t, reflect.String)
	case bool:
		return want(path, fmt.Sprint(v), t, reflect.Bool)
	case json.Number:
		if t == nil {
			return nil
		}
		switch {
		case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
			_, err = strconv.ParseInt(v.String(), 10, t.Bits())
		case t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64:
			_, err = strconv.ParseUint(v.String(), 10, t.Bits())
		case t.Kind() == reflect.Float64 || t.Kind() == reflect.Float32:
			_, err = strconv.ParseFloat(v.String(), t.Bits())
		default:
			err = errors.ErrUnsupported
		}
		if err != nil {
			return fault(path, v.String(), t)
		}
	}
	return nil // null is the zero value
}

func (c checker) list(path string, t reflect.Type) error {
	if err := want(path, "a list", t, reflect.Slice, reflect.Array); err != nil {
		return err
	}
	if t != nil {
		t = t.Elem()
	}
	for i := 0; c.dec.More(); i++ {
		if err := c.value(fmt.Sprintf("%s[%d]", path, i), t); err != nil {
			return err
		}
	}
	_, err := c.dec.Token()
	return err
}

func (c checker) object(path string, t reflect.Type) error {
	if err := want(path, "an object", t, reflect.Struct, reflect.Map); err != nil {
		return err
	}
	var of map[string]reflect.Type
	if t != nil && t.Kind() == reflect.Struct {
		of = fields(t)
	}
	seen := map[string]bool{}
	for c.dec.More() {
		token, err := c.dec.Token()
		if err != nil {
			return err
		}
		key := token.(string)
		at := strings.TrimPrefix(path+"."+shorten(key), ".")
		if seen[key] {
			return fmt.Errorf("%s: twice: want each field once", at)
		}
		seen[key] = true
		var next reflect.Type
		switch {
		case of != nil:
			if next = of[key]; next == nil {
				names := make([]string, 0, len(of))
				for name := range of {
					names = append(names, name)
				}
				slices.Sort(names)
				return fmt.Errorf("%s: unknown field: want one of %s", at, strings.Join(names, ", "))
			}
		case t != nil:
			next = t.Elem()
		}
		if err := c.value(at, next); err != nil {
			return err
		}
	}
	_, err := c.dec.Token()
	return err
}

// fields returns the types of a struct's fields by their names in JSON.
func fields(t reflect.Type) map[string]reflect.Type {
	of := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" || f.Anonymous && name == "" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		of[name] = f.Type
	}
	return of
}

func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func want(path, value string, t reflect.Type, kinds ...reflect.Kind) error {
	if t == nil || slices.Contains(kinds, t.Kind()) {
		return nil
	}
	return fault(path, value, t)
}

func fault(path, value string, t reflect.Type) error {
	if path == "" {
		path = "body"
	}
	wanted := "an object"
	switch k := t.Kind(); {
	case k == reflect.String:
		wanted = "a text"
	case k == reflect.Bool:
		wanted = "true or false"
	case k >= reflect.Int && k <= reflect.Int64:
		wanted = fmt.Sprintf("a whole number of %d bits", t.Bits())
	case k >= reflect.Uint && k <= reflect.Uint64:
		wanted = fmt.Sprintf("a whole number of 0 or more, of %d bits", t.Bits())
	case k == reflect.Float64 || k == reflect.Float32:
		wanted = "a number"
	case k == reflect.Slice || k == reflect.Array:
		wanted = "a list"
	}
	return fmt.Errorf("%s: %s: want %s", path, shorten(value), wanted)
}

// shorten keeps what a client sent from filling the answer.
func shorten(text string) string {
	const most = 64
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
