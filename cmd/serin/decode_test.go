package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"serin.dev/serin/internal/event"
)

// TestDecodeSaysWhyNot: what cannot be decoded is told with its reason, as the edge
// would refuse it, and fails.
func TestDecodeSaysWhyNot(t *testing.T) {
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	logs := file("head.json", `{"target":"/v1/logs","headers":{"Content-Type":"application/json"}}`)
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no JSON", []string{"faro", file("body", "{")}, `json: malformed body: body: "{"`},
		{"another protocol", []string{"faro", file("body", `{"resourceLogs":[]}`)}, `missing: malformed body: meta`},
		{"nothing", []string{"elastic", file("body", "")}, `json: malformed body`},
		{"no array", []string{"otlp", "--headers", logs, file("body", `{"resourceLogs":5}`)}, `type: malformed body: resourceLogs: "number": want an array`},
		{"too large", []string{"faro", file("body", strings.Repeat(" ", event.MaxBody+1))}, `size: malformed body: body: "1048577 bytes": want at most 1048576 bytes`},
		{"an unknown protocol", []string{"boomerang", file("body", "{}")}, `want one of native, faro`},
		{"no target", []string{"otlp", file("body", "{}")}, `want a path that ends in traces, logs or metrics`},
	} {
		status, out, errs := runCommand(t, append([]string{"decode"}, c.args...)...)
		if status == 0 || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%s: status %d, printed %q, said %q; want %q", c.name, status, out, errs, c.want)
		}
	}
}
