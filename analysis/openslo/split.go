package openslo

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/analysis/yamlfile"
)

// Object is one object of a file by itself.
type Object struct {
	Kind, Name string
	Line       int    // in the file, from 1
	Text       string // YAML in one form, whatever the form in the file, with its comments
}

// Kinds returns the kinds of objects, in the order of the specification.
func Kinds() []string { return kinds() }

// Split returns the objects of a file, each as a file of its own. Its error is that of
// [Parse]; an object that is there twice is left to [Compile].
func Split(name string, data []byte) ([]Object, error) {
	f, err := Parse(name, data)
	if err != nil {
		return nil, err
	}
	roots, err := yamlfile.Documents(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var all []Object
	for i, n := range heads(roots) {
		o := Object{Kind: f.objects[i].kind, Name: f.objects[i].name, Line: n.Line}
		var b bytes.Buffer
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		if err := enc.Encode(n); err != nil {
			return nil, fmt.Errorf("%s: %s %s: %w", name, o.Kind, o.Name, err)
		}
		// Only form is lost: what it says must be what was read.
		if o.Text = strings.TrimSpace(b.String()) + "\n"; !same(o) {
			return nil, fmt.Errorf("%s: %s %s: it cannot be written by itself: want plainer YAML", name, o.Kind, o.Name)
		}
		all = append(all, o)
	}
	return all, nil
}

// same reports whether the text of an object is it.
func same(o Object) bool {
	again, err := Parse(o.Name, []byte(o.Text))
	return err == nil && len(again.objects) == 1 && again.objects[0].kind == o.Kind && again.objects[0].name == o.Name
}

// Head returns the kind and name of a text that is one object, or its faults.
func Head(name string, text []byte) (kind, object string, err error) {
	f, err := Parse(name, text)
	if err != nil {
		return "", "", err
	}
	if len(f.objects) != 1 {
		return "", "", fmt.Errorf("%s: %d objects: want one", name, len(f.objects))
	}
	return f.objects[0].kind, f.objects[0].name, nil
}
