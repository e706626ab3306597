package archtest

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestLimitsAreThoseOfTheCode holds docs/limits.md against the constants that
// it names, and wants all limits of beacons and tenants in it.
func TestLimitsAreThoseOfTheCode(t *testing.T) {
	text, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]map[string]float64{}
	of := func(pkg string) map[string]float64 {
		if packages[pkg] == nil {
			packages[pkg] = numbers(t, filepath.Join("../..", pkg))
		}
		return packages[pkg]
	}
	row := regexp.MustCompile("(?m)^\\| ([^|*]+) \\| ([^|]*) \\| [^|]*\\| `([a-z/]+)\\.([A-Za-z.]+)` \\|$")
	named := map[string]bool{}
	rows := row.FindAllStringSubmatch(string(text), -1)
	if want := strings.Count(string(text), "` |\n"); len(rows) != want || want < 50 {
		t.Errorf("%d of %d rows can be read", len(rows), want)
	}
	for _, m := range rows {
		what, value, pkg, name := m[1], m[2], m[3], m[4]
		named[pkg+"."+name] = true
		code, ok := of(pkg)[name]
		if !ok {
			t.Errorf("%s: %s has no constant %s", what, pkg, name)
			continue
		}
		doc, err := quantity(value)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if strings.HasSuffix(name, "MS") {
			doc /= 1e6
		}
		if doc != code {
			t.Errorf("%s: the page says %s, %s.%s is %v", what, value, pkg, name, code)
		}
	}
	for name := range of("internal/event") {
		if (strings.HasPrefix(name, "Max") || strings.HasPrefix(name, "Min")) && !named["internal/event."+name] {
			t.Errorf("internal/event.%s is not in docs/limits.md", name)
		}
	}
	for pkg, prefix := range map[string]string{"internal/tenant": "DefaultLimits.", "ingest": "streamDefaults."} {
		for name := range of(pkg) {
			if strings.HasPrefix(name, prefix) && name != "streamDefaults.look" && !named[pkg+"."+name] {
				t.Errorf("%s.%s is not in docs/limits.md", pkg, name)
			}
		}
	}
}

// quantity reads a value of the page: bytes, nanoseconds or a plain number.
func quantity(s string) (float64, error) {
	number, unit, _ := strings.Cut(s, " ")
	x, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("value %q: want a number", s)
	}
	scale, ok := map[string]float64{"": 1, "bytes": 1, "characters": 1, "KiB": 1 << 10, "MiB": 1 << 20,
		"ms": 1e6, "s": 1e9, "min": 60e9, "h": 3600e9, "days": 24 * 3600e9}[unit]
	if !ok {
		return 0, fmt.Errorf("value %q: unit %q is not known", s, unit)
	}
	return x * scale, nil
}

var durations = strings.NewReplacer("time.Millisecond", "1000000", "time.Second", "1000000000", "time.Minute", "60000000000", "time.Hour", "3600000000000")

// numbers returns the numeric constants of a package by name, and the fields
// of its variables that are composite literals as VARIABLE.FIELD.
func numbers(t *testing.T, dir string) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	set := token.NewFileSet()
	list, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(list) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	note := func(name string, e ast.Expr) {
		tv, err := types.Eval(set, nil, token.NoPos, durations.Replace(types.ExprString(e)))
		if err != nil || tv.Value == nil || tv.Value.Kind() != constant.Int && tv.Value.Kind() != constant.Float {
			return // no number, or one that depends on others
		}
		x, _ := constant.Float64Val(tv.Value)
		if !math.IsInf(x, 0) {
			out[name] = x
		}
	}
	for _, path := range list {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if _, ok := n.(*ast.FuncDecl); ok {
				return false
			}
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, v := range spec.Values {
				lit, ok := v.(*ast.CompositeLit)
				if !ok {
					note(spec.Names[i].Name, v)
					continue
				}
				for _, e := range lit.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						if key, ok := kv.Key.(*ast.Ident); ok {
							note(spec.Names[i].Name+"."+key.Name, kv.Value)
						}
					}
				}
			}
			return true
		})
	}
	return out
}
