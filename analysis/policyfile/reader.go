package policyfile

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/analysis/canary"
)

// reader decodes nodes into values by the names that JSON has for their
// fields. It goes on after a fault. The yaml package's own decoder knows
// other names, keeps no lines, and cannot tell a 0 from an absent field.
type reader struct {
	faults []Fault
	lines  map[string]int // by path
}

func (r *reader) fault(n *yaml.Node, field, value, want string) {
	if field == "" {
		field = "file"
	}
	r.faults = append(r.faults, Fault{n.Line, canary.Fault{Field: field, Value: value, Want: want}})
}

// document decodes the whole file, but for its kind, and reports whether it is
// a mapping at all.
func (r *reader) document(root *yaml.Node, kind string, v any) bool {
	if root.Kind != yaml.MappingNode {
		r.fault(root, "", shown(root), "fields of a "+kind)
		return false
	}
	rest := *root
	rest.Content = nil
	for i := 0; i+1 < len(root.Content); i += 2 {
		k, val := root.Content[i], root.Content[i+1]
		if k.Value != "kind" {
			rest.Content = append(rest.Content, k, val)
		} else if val.Value != kind {
			r.fault(val, "kind", shown(val), kind)
		}
	}
	r.value(&rest, reflect.ValueOf(v).Elem(), "")
	return true
}

// shown spells a node for a fault.
func shown(n *yaml.Node) string {
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

func (r *reader) value(n *yaml.Node, v reflect.Value, path string) {
	if _, ok := r.lines[path]; !ok {
		r.lines[path] = n.Line
	}
	if n.Kind == yaml.AliasNode {
		r.fault(n, path, "*"+n.Value, "the value itself: aliases are not read")
		return
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if n.Kind != yaml.ScalarNode {
			r.fault(n, path, shown(n), "text")
		} else if err := text.UnmarshalText([]byte(n.Value)); err != nil {
			r.fault(n, path, strconv.Quote(n.Value), "a number with a unit, such as 90s or 15m")
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
			r.fault(n, path, shown(n), "a list")
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
func (r *reader) zero(n *yaml.Node, path string) {
	r.fault(n, path, n.Value, "something else than 0, or the field left out for its default")
}

func (r *reader) scalar(n *yaml.Node, v reflect.Value, path string) {
	var want string
	switch v.Kind() {
	case reflect.String:
		if want = "text"; n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
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
			var f float64
			if n.Decode(&f) == nil {
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
		panic("BUG: a policy has a field of kind " + v.Kind().String())
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && want != "text" {
		want += ", without quotes"
	}
	if want == "text" && n.Kind == yaml.ScalarNode {
		want = "text, in quotes where it looks like a number, a boolean or a date"
	}
	r.fault(n, path, shown(n), want)
}

// pairs walks a mapping's keys, each once.
func (r *reader) pairs(n *yaml.Node, path string, each func(key, value *yaml.Node, path string)) {
	if n.Kind != yaml.MappingNode {
		r.fault(n, path, shown(n), "a mapping")
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
				r.fault(k, where+" (again)", shown(n.Content[i+1]), fmt.Sprintf("each field once; it is in line %d too", first))
			} else {
				r.fault(k, where, shown(k), "a name")
			}
			continue
		}
		seen[k.Value] = k.Line
		r.lines[where] = k.Line
		each(k, n.Content[i+1], where)
	}
}

func (r *reader) structure(n *yaml.Node, v reflect.Value, path string) {
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
			r.fault(k, where, "no such field", "one of "+strings.Join(names, ", "))
			return
		}
		r.value(value, v.Field(i), where)
	})
}

func (r *reader) entries(n *yaml.Node, v reflect.Value, path string) {
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
