package event

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestReasonsAreDocumented holds the table of reasons that SDK builders read
// against the constants: a reason that is sent and not explained fails.
func TestReasonsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/formats/beacon.md")
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "limits.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		lit, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			t.Fatalf("%s is no text", spec.Names[0].Name)
		}
		reason, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		n++
		if !strings.Contains(string(text), "\n| `"+reason+"` | ") {
			t.Errorf("reason %q has no line in docs/formats/beacon.md", reason)
		}
		return true
	})
	if n < 19 {
		t.Errorf("only %d reasons were found", n)
	}
}
