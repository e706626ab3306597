// Package yamlfile reads YAML into structures by the names that JSON has for
// their fields. It says of each fault in which line it is, and goes on after
// one, so that all are told together.
package yamlfile

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxBytes is the largest file that is read.
const MaxBytes = 1 << 20

// Fault is one thing that is wrong, and where.
type Fault struct {
	Line  int    // from 1
	Field string // its path, such as guardrails.lcp_good.margin or stages[1].weight
	Value string // as given
	Want  string // what is allowed
}

// String returns the fault on one line, without its place.
func (f Fault) String() string { return f.Field + ": " + f.Value + ": want " + f.Want }

// Faults is all that is wrong with a file, in the order of its lines.
type Faults struct {
	File   string
	Faults []Fault
}

// Error returns one fault a line, each as FILE:LINE: FIELD: VALUE: want what is
// allowed.
func (e *Faults) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = fmt.Sprintf("%s:%d: %s", e.File, f.Line, f)
	}
	return strings.Join(lines, "\n")
}

// Documents parses a file of YAML documents, of which there may be none, and
// returns what is at the root of each.
func Documents(data []byte) ([]*yaml.Node, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%d bytes: want at most %d", len(data), MaxBytes)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var roots []*yaml.Node
	for {
		var doc yaml.Node
		switch err := dec.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return roots, nil
		case err != nil:
			return nil, err
		case len(doc.Content) > 0:
			roots = append(roots, doc.Content[0])
		}
	}
}

// Node is a type that reads itself: what it finds amiss it notes in the reader.
type Node interface {
	ReadNode(r *Reader, n *yaml.Node, path string)
}

// Reader decodes nodes into values by the names that JSON has for their fields.
// It goes on after a fault. The yaml package's own decoder knows other names,
// keeps no lines, and cannot tell a 0 from an absent field.
type Reader struct {
	Faults []Fault
	// Plain takes a 0 as a value, a null as an absent field and a date as text, as
	// JSON made of the YAML would have them. Else a 0 is a fault, since it would be
	// taken as absent.
	Plain bool

	lines map[string]int // by path
}

// Fault notes a fault at a node.
func (r *Reader) Fault(n *yaml.Node, field, value, want string) {
	if field == "" {
		field = "file"
	}
	r.Faults = append(r.Faults, Fault{n.Line, field, value, want})
}

// Line returns the line of a field, or of the nearest one above it that is
// there: a field that is absent has none of its own.
func (r *Reader) Line(field string) int {
	for {
		if l, ok := r.lines[field]; ok {
			return l
		}
		i := strings.LastIndexAny(field, ".[")
		if i < 0 {
			return r.lines[""]
		}
		field = field[:i]
	}
}

// Faulted reports whether a field, or one above it, is among the faults.
func Faulted(faults []Fault, field string) bool {
	return slices.ContainsFunc(faults, func(f Fault) bool {
		rest, ok := strings.CutPrefix(field, f.Field)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// Document decodes a whole file of one kind, but for its kind, and reports
// whether it is a mapping at all.
func (r *Reader) Document(root *yaml.Node, kind string, v any) bool {
	if root.Kind != yaml.MappingNode {
		r.Fault(root, "", Shown(root), "fields of "+A(kind))
		return false
	}
	rest := *root
	rest.Content = nil
	for i := 0; i+1 < len(root.Content); i += 2 {
		k, val := root.Content[i], root.Content[i+1]
		if k.Value != "kind" {
			rest.Content = append(rest.Content, k, val)
		} else if val.Value != kind {
			r.Fault(val, "kind", Shown(val), kind)
		}
	}
	r.Value(&rest, v, "")
	return true
}

// Value decodes a node into what v points to.
func (r *Reader) Value(n *yaml.Node, v any, path string) {
	if r.lines == nil {
		r.lines = map[string]int{}
	}
	r.value(n, reflect.ValueOf(v).Elem(), path)
}

// A returns a name after its article, as it is said: an alert-test, an SLO, a policy.
func A(name string) string {
	if strings.ContainsAny(name[:min(1, len(name))], "AEIOUaeiou") || strings.HasPrefix(name, "SL") {
		return "an " + name
	}
	return "a " + name
}

// Shown spells a node for a fault.
func Shown(n *yaml.Node) string {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!str" {
			return strconv.Quote(n.Value)
		}
		if n.Value == "" {
			return "nothing"
		}
		return n.Value
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return "an alias"
}

func (r *Reader) value(n *yaml.Node, v reflect.Value, path string) {
	if _, ok := r.lines[path]; !ok {
		r.lines[path] = n.Line
	}
	if n.Kind == yaml.AliasNode {
		r.Fault(n, path, "*"+n.Value, "the value itself: aliases are not read")
		return
	}
	if own, ok := v.Addr().Interface().(Node); ok {
		own.ReadNode(r, n, path)
		return
	}
	if r.Plain && n.Tag == "!!null" {
		return
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if n.Kind != yaml.ScalarNode {
			r.Fault(n, path, Shown(n), "text")
		} else if err := text.UnmarshalText([]byte(n.Value)); err != nil {
			r.Fault(n, path, strconv.Quote(n.Value), "a number with a unit, such as 90s or 15m")
		} else if v.IsZero() {
			r.zero(n, path)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		r.structure(n, v, path)
	case reflect.Map:
		r.entries(n, v, path)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			r.Fault(n, path, Shown(n), "a list")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, e := range n.Content {
			r.value(e, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.value(n, v.Elem(), path)
	default:
		r.scalar(n, v, path)
	}
}

// zero notes a 0 where it would be taken as absent, and the default put in its
// place behind the author's back.
func (r *Reader) zero(n *yaml.Node, path string) {
	if r.Plain {
		return
	}
	r.Fault(n, path, n.Value, "something else than 0, or the field left out for its default")
}

func (r *Reader) scalar(n *yaml.Node, v reflect.Value, path string) {
	var want string
	switch v.Kind() {
	case reflect.String:
		if want = "text"; n.Kind == yaml.ScalarNode && (n.Tag == "!!str" || r.Plain && n.Tag == "!!timestamp") {
			v.SetString(n.Value)
			return
		}
	case reflect.Bool:
		if want = "true or false"; n.Kind == yaml.ScalarNode && n.Tag == "!!bool" {
			v.SetBool(strings.EqualFold(n.Value, "true"))
			return
		}
	case reflect.Float64:
		if want = "a number"; n.Kind == yaml.ScalarNode && (n.Tag == "!!float" || n.Tag == "!!int") {
			var f float64 // .nan and .inf are of YAML, and no numbers
			if n.Decode(&f) == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
				if v.SetFloat(f); f == 0 {
					r.zero(n, path)
				}
				return
			}
		}
	case reflect.Int, reflect.Int64:
		if want = "a whole number"; n.Kind == yaml.ScalarNode && n.Tag == "!!int" {
			var i int64
			if n.Decode(&i) == nil {
				if v.SetInt(i); i == 0 {
					r.zero(n, path)
				}
				return
			}
		}
	default:
		panic("BUG: a structure to be read has a field of kind " + v.Kind().String())
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && want != "text" {
		want += ", without quotes"
	}
	if want == "text" && n.Kind == yaml.ScalarNode {
		want = "text, in quotes where it looks like a number, a boolean or a date"
	}
	r.Fault(n, path, Shown(n), want)
}

// pairs walks a mapping's keys, each once.
func (r *Reader) pairs(n *yaml.Node, path string, each func(key, value *yaml.Node, path string)) {
	if n.Kind != yaml.MappingNode {
		r.Fault(n, path, Shown(n), "a mapping")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		where := k.Value
		if path != "" {
			where = path + "." + k.Value
		}
		if first, ok := seen[k.Value]; ok || k.Kind != yaml.ScalarNode {
			if ok {
				r.Fault(k, where+" (again)", Shown(n.Content[i+1]), fmt.Sprintf("each field once; it is in line %d too", first))
			} else {
				r.Fault(k, where, Shown(k), "a name")
			}
			continue
		}
		seen[k.Value] = k.Line
		r.lines[where] = k.Line
		each(k, n.Content[i+1], where)
	}
}

func (r *Reader) structure(n *yaml.Node, v reflect.Value, path string) {
	fields := map[string]int{}
	var names []string
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = i
		names = append(names, name)
	}
	slices.Sort(names)
	r.pairs(n, path, func(k, value *yaml.Node, where string) {
		i, ok := fields[k.Value]
		if !ok {
			r.Fault(k, where, "no such field", "one of "+strings.Join(names, ", "))
			return
		}
		r.value(value, v.Field(i), where)
	})
}

func (r *Reader) entries(n *yaml.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	r.pairs(n, path, func(k, value *yaml.Node, where string) {
		e := reflect.New(v.Type().Elem()).Elem()
		if value.Kind == yaml.ScalarNode && value.Tag == "!!null" && e.Kind() == reflect.Struct {
			v.SetMapIndex(reflect.ValueOf(k.Value), e) // named, with the defaults
			return
		}
		r.value(value, e, where)
		v.SetMapIndex(reflect.ValueOf(k.Value), e)
	})
}
