package otlp

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"serin.dev/serin/ingest/dialect"
)

// TestPages says on which page each record was: the URL of a request or a
// resource is none, and what names no page is on the one that its session was on.
func TestPages(t *testing.T) {
	attr := func(key, text string) string {
		return fmt.Sprintf(`{"key":%q,"value":{"stringValue":%q}}`, key, text)
	}
	record := func(kind, name string, attrs ...string) string {
		return fmt.Sprintf(`{%q:%q,"attributes":[%s]}`, kind, name, strings.Join(attrs, ","))
	}
	log := func(name string, attrs ...string) string { return record("eventName", name, attrs...) }
	span := func(name string, attrs ...string) string { return record("name", name, attrs...) }
	alone := []string{attr("service.name", "shop"), attr("service.version", "1"), attr("session.id", "session-1")}
	cart := attr("url.full", "https://shop.example/cart?x=1")
	api := attr("url.full", "https://api.shop.example/pay")
	get := attr("http.request.method", "GET")
	for _, c := range []struct {
		name, signal string
		resource     []string
		records      []string
		want         string // page and number of events of each beacon
	}{
		{"a page by its URL", Logs, alone, []string{log("x", cart)}, "/cart 1"},
		{"a screen", Logs, alone, []string{log("x", attr("app.screen.name", "Cart"))}, "Cart 1"},
		{"no page", Logs, alone, []string{log("x"), log("y", get, api)}, " 2"},
		{"a view by its path", Logs, alone, []string{log("browser.page_view", attr("url.path", "/cart"))}, "/cart 1"},
		{"the path of something else", Logs, alone, []string{log("browser.resource", attr("url.path", "/app.js"))}, " 1"},
		{"a request on a page", Logs, alone, []string{log("x", cart), log("y", get, api), log("z", attr("url.path", "/app.js"))}, "/cart 3"},
		{"a request before a page", Logs, alone, []string{log("y", get, api), log("x", cart)}, " 1, /cart 1"},
		{"two pages", Logs, alone, []string{log("x", cart), log("browser.page_view", attr("url.full", "https://shop.example/")), log("y", get, api)}, "/cart 1, / 2"},
		{"a page of another session", Logs, alone, []string{log("x", cart), log("y", get, api, attr("session.id", "session-2"))}, "/cart 1,  1"},
		{"a page of the resource", Logs, append(alone, attr("app.screen.name", "Home")), []string{log("x", attr("app.screen.name", "Cart")), log("y")}, "Cart 1, Home 1"},
		{"a load and its resources", Traces, alone, []string{span("documentLoad", cart), span("resourceFetch", attr("url.full", "https://cdn.example/app.js")), span("GET", get, api)}, "/cart 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			names := jsonNames[c.signal]
			body := fmt.Sprintf(`{%q:[{"resource":{"attributes":[%s]},%q:[{%q:[%s]}]}]}`,
				names.groups, strings.Join(c.resource, ","), names.scopes, names.records, strings.Join(c.records, ","))
			res, err := Decode(&dialect.Request{Target: &url.URL{Path: "/v1/" + c.signal}, Header: map[string]string{}, Body: []byte(body), Now: 1})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range res.Beacons {
				got = append(got, fmt.Sprintf("%s %d", res.Beacons[i].Ctx.Page, len(res.Beacons[i].Events)))
			}
			if list := strings.Join(got, ", "); list != c.want || len(res.Rejected) > 0 {
				t.Errorf("got %q, want %q; rejected %v", list, c.want, res.Rejected)
			}
		})
	}
}
