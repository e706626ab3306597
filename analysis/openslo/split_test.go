package openslo

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestSplit: the objects of a file, each by itself, come to the same objectives.
func TestSplit(t *testing.T) {
	for name, text := range map[string]string{"shop.yaml": "", "a list": "- {apiVersion: openslo/v1, kind: Service, metadata: {name: a}, spec: {}}\n- apiVersion: openslo/v1\n  kind: DataSource # ours\n  metadata: {name: serin}\n  spec: {type: Serin, connectionDetails: {}}\n"} {
		data := []byte(text)
		if text == "" {
			var err error
			if data, err = os.ReadFile("testdata/" + name); err != nil {
				t.Fatal(err)
			}
		}
		whole, err := Parse(name, data)
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := Compile(whole)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := Split(name, data)
		if err != nil || len(objects) != whole.Objects() {
			t.Fatalf("%d objects of %d, %v", len(objects), whole.Objects(), err)
		}
		var files []*File
		for _, o := range objects {
			kind, named, err := Head("x", []byte(o.Text))
			if err != nil || kind != o.Kind || named != o.Name {
				t.Errorf("%s %s: read again as %s %s, %v", o.Kind, o.Name, kind, named, err)
			}
			f, err := Parse(o.Kind+"/"+o.Name, []byte(o.Text))
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
			again, err := Split("again", []byte(o.Text))
			if err != nil || again[0].Text != o.Text || again[0].Kind != o.Kind || again[0].Name != o.Name {
				t.Errorf("%s %s is written otherwise the second time:\n%s\n%s", o.Kind, o.Name, o.Text, again[0].Text)
			}
		}
		got, _, err := Compile(files...)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v\nwant %+v", name, got, want)
		}
		if text != "" && !strings.Contains(objects[1].Text, "# ours") {
			t.Errorf("a comment is lost: %s", objects[1].Text)
		}
	}
	if _, err := Split("bad.yaml", []byte("apiVersion: openslo/v1\nkind: SLO\n")); err == nil || !strings.Contains(err.Error(), "bad.yaml:") {
		t.Error(err)
	}
	if _, _, err := Head("two", []byte("apiVersion: openslo/v1\nkind: Service\nmetadata: {name: a}\nspec: {}\n---\napiVersion: openslo/v1\nkind: Service\nmetadata: {name: b}\nspec: {}\n")); err == nil || !strings.Contains(err.Error(), "2 objects: want one") {
		t.Error(err)
	}
}
