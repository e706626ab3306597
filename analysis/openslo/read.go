package openslo

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/analysis/yamlfile"
)

// File is the objects of one file.
type File struct {
	Name    string
	objects []*object
}

// Objects returns how many objects the file has.
func (f *File) Objects() int { return len(f.objects) }

// object is one object with its place.
type object struct {
	file   string
	kind   string
	name   string
	reader *yamlfile.Reader // knows the lines
	of     checked
}

// checked is an object that can say what is wrong with it.
type checked interface{ check(note) }

// fault makes a fault of one of the object's fields.
func (o *object) fault(field, value, want string) yamlfile.Fault {
	return yamlfile.Fault{Line: o.reader.Line(field), Field: field, Value: value, Want: want}
}

// Is reports whether a file is of OpenSLO, by the head of any of its objects.
func Is(data []byte) bool {
	roots, err := yamlfile.Documents(data)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(heads(roots), func(n *yaml.Node) bool {
		v := scalar(n, "apiVersion")
		return v != nil && strings.HasPrefix(v.Value, "openslo")
	})
}

// heads returns the objects of documents: each is one, or a list of them.
func heads(roots []*yaml.Node) []*yaml.Node {
	var all []*yaml.Node
	for _, root := range roots {
		if root.Kind == yaml.SequenceNode {
			all = append(all, root.Content...)
		} else if root.Tag != "!!null" {
			all = append(all, root)
		}
	}
	return all
}

// scalar returns the value of a mapping's field, or nil.
func scalar(n *yaml.Node, field string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == field && n.Content[i+1].Kind == yaml.ScalarNode {
			return n.Content[i+1]
		}
	}
	return nil
}

// Parse reads a file of one or more objects, as YAML documents or lists. An
// error for faults in it is a [*yamlfile.Faults], which has all of them. What it
// accepts is what the specification's Go SDK accepts.
func Parse(name string, data []byte) (*File, error) {
	roots, err := yamlfile.Documents(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	f := &File{Name: name}
	var faults []yamlfile.Fault
	for _, n := range heads(roots) {
		o, bad := parseObject(name, n)
		faults = append(faults, bad...)
		f.objects = append(f.objects, o)
	}
	if len(f.objects) == 0 {
		faults = append(faults, yamlfile.Fault{Line: 1, Field: "file", Value: "no object", Want: "at least one of " + strings.Join(kinds(), ", ")})
	}
	return f, told(name, faults)
}

// told makes an error of faults, in the order of their lines.
func told(name string, faults []yamlfile.Fault) error {
	if len(faults) == 0 {
		return nil
	}
	slices.SortStableFunc(faults, func(a, b yamlfile.Fault) int { return a.Line - b.Line })
	return &yamlfile.Faults{File: name, Faults: faults}
}

func kinds() []string {
	return []string{KindService, KindDataSource, KindSLI, KindSLO, KindAlertPolicy, KindAlertCondition, KindAlertNotificationTarget}
}

func parseObject(file string, n *yaml.Node) (*object, []yamlfile.Fault) {
	o := &object{file: file, reader: &yamlfile.Reader{Plain: true}}
	if n.Kind != yaml.MappingNode {
		o.reader.Fault(n, "", yamlfile.Shown(n), "an object with apiVersion and kind")
		return o, o.reader.Faults
	}
	version, kind := scalar(n, "apiVersion"), scalar(n, "kind")
	switch {
	case version == nil:
		o.reader.Fault(n, "apiVersion", absent, Version)
		return o, o.reader.Faults
	case version.Value == versionAlpha || version.Value == versionNext:
		o.reader.Fault(version, "apiVersion", strconv.Quote(version.Value), Version+": this version is not read, and that is the nearest one")
		return o, o.reader.Faults
	case version.Value != Version:
		o.reader.Fault(version, "apiVersion", strconv.Quote(version.Value), Version)
		return o, o.reader.Faults
	case kind == nil:
		o.reader.Fault(n, "kind", absent, "one of "+strings.Join(kinds(), ", "))
		return o, o.reader.Faults
	}
	o.kind = kind.Value
	var meta **Metadata
	switch kind.Value {
	case KindService:
		v := &service{}
		o.reader.Value(n, v, "")
		o.of, meta = v, &v.Metadata
	case KindDataSource:
		v := &dataSource{}
		o.reader.Value(n, v, "")
		o.of, meta = v, &v.Metadata
	case KindSLI:
		v := &sli{}
		o.reader.Value(n, v, "")
		o.of, meta = v, &v.Metadata
	case KindSLO:
		v := &sloObject{}
		o.reader.Value(n, v, "")
		o.of, meta = v, &v.Metadata
	case KindAlertPolicy:
		v := &alertPolicy{}
		o.reader.Value(n, v, "")
		o.of, meta = v, &v.Metadata
	case KindAlertCondition:
		v := &alertCondition{}
		o.reader.Value(n, v, "")
		o.of, meta = v, &v.Metadata
	case KindAlertNotificationTarget:
		v := &alertTarget{}
		o.reader.Value(n, v, "")
		o.of, meta = v, &v.Metadata
	default:
		o.reader.Fault(kind, "kind", strconv.Quote(kind.Value), "one of "+strings.Join(kinds(), ", "))
		return o, o.reader.Faults
	}
	form := o.reader.Faults
	faults := slices.Clone(form)
	var add note = func(field, value, want string) {
		if !yamlfile.Faulted(form, field) {
			faults = append(faults, o.fault(field, value, want))
		}
	}
	(*meta).check(add.in("metadata"))
	o.of.check(add)
	if *meta != nil {
		o.name = (*meta).Name
	}
	return o, faults
}
