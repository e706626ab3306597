// Serin is a client-side observability backend that answers whether a release
// may go on. This command is all of it: the server, and the tools around it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"serin.dev/serin/ingest"
)

// version is set at build time.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends what does not heed the first, such as a read of the terminal
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is one subcommand; each has a file of its own.
type command struct {
	name, args, help string
	run              func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

var commands = []command{
	{"serve", "[--config FILE]", "run the server", serve},
	{"demo", "[--healthy] [--once]", "run the server with simulated clients and a rollout, to the verdict", demo},
	{"verdict", "ID [--wait]", "print a rollout's verdict; exit status 0 promote, 10 hold, 20 rollback", verdictCommand},
	{"gate", "[--rollout ID] [--slo NAME]", "may a pipeline go on: verdicts, gates and error budgets together; exit status 0, 10, 20", gateCommand},
	{"explain", "ID [--svg FILE]", "print what a rollout's verdict rests on, as tables and a plot", explain},
	{"next", "ID", "what a rollout reached and cost, and the smallest share that still decides in time", next},
	{"backtest", "--tenant T ID", "recompute a rollout's verdicts from its segments and compare; --policy FILE tries another", backtest},
	{"check", "FILE|FOLDER...", "check a configuration, policies, rollouts, OpenSLO objectives and when their alerts burn", check},
	{"slo", "status|who NAME", "how objectives stand, and who spent their error budgets", sloCommand},
	{"plan", "FILE|FOLDER...", "show what applying policies, rollouts and objectives would change on a server", plan},
	{"apply", "FILE|FOLDER...", "apply them, all or nothing; --back N goes back to what was after change N", apply},
	{"release", "STATE APP RELEASE", "tell that a release is deployed, released or withdrawn; list: how all stand, and what leaked", releaseCommand},
	{"audit", "", "who changed which policies and objectives, and when", audit},
	{"deliveries", "list|replay [MESSAGE]", "what was told to webhooks, and telling it again", deliveriesCommand},
	{"test", "FILE...", "run tests of alerts: input series, expected alerts", testCommand},
	{"alerts", "[--json]", "incidents: what is pending, open, or ended just now", alertsCommand},
	{"silence", "add|list|end", "keep incidents from being told for a time", silenceCommand},
	{"decode", "PROTOCOL [BODY]", "print the events that a recorded request is decoded into", decode},
	{"quarantine", "list|show|release [ID]", "what the edge holds back: bodies that killed a taster", quarantine},
	{"load", "--target URL --key K", "send beacons to a server and measure its answers", loadCommand},
	{"lab", "EXPERIMENT", "simulate rollouts through the engine: how often it errs, how soon it finds harm", labCommand},
	{"judge", "--baseline A --canary B", "compare two columns of numbers", judgeCommand},
	{"bench", "[--length 10s]", "measure the ingest path end to end", bench},
	{"version", "", "print the version", printVersion},
}

// errUsage says that the words of the command are off; what is wrong has been
// printed.
var errUsage = errors.New("usage")

// exit is an error that carries an exit status and is not printed.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// run runs the command in args and returns its exit status: 2 for wrong usage,
// 1 for other failures.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	usage := func(w io.Writer) {
		fmt.Fprintln(w, "usage: serin COMMAND; serin help COMMAND has its flags")
		for _, c := range commands {
			fmt.Fprintf(w, "  %-10s %-27s %s\n", c.name, c.args, c.help)
		}
	}
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	if args[0] == "help" && len(args) == 1 || args[0] == "-h" || args[0] == "--help" {
		usage(stdout)
		return 0
	}
	if args[0] == tasterCommand {
		if err := ingest.ServeTaster(os.Stdin, stdout); err != nil {
			fmt.Fprintf(stderr, "serin %s: %v\n", tasterCommand, err)
			return 1
		}
		return 0
	}
	if args[0] == "help" {
		args = []string{args[1], "-h"}
	}
	for _, c := range commands {
		if c.name != args[0] {
			continue
		}
		errs := stderr
		if slices.ContainsFunc(args[1:], func(a string) bool { return a == "-h" || a == "-help" || a == "--help" }) {
			errs = stdout // who asks for the usage may want to page or search it
		}
		err := c.run(ctx, args[1:], stdout, errs)
		var status exit
		switch {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		case errors.As(err, &status):
			return int(status)
		case errors.Is(err, errUsage):
			return 2
		}
		fmt.Fprintf(stderr, "serin %s: %v\n", c.name, err)
		return 1
	}
	fmt.Fprintf(stderr, "serin: no command %q\n", args[0])
	usage(stderr)
	return 2
}

func printVersion(_ context.Context, args []string, stdout, stderr io.Writer) error {
	if _, err := parse(flag.NewFlagSet("version", flag.ContinueOnError), args, 0, stderr); err != nil {
		return err
	}
	_, err := fmt.Fprintln(stdout, "serin", version)
	return err
}

// words parses flags that may stand before, between or after arguments, and returns
// the arguments.
func words(fs *flag.FlagSet, args []string, stderr io.Writer) (rest []string, err error) {
	fs.SetOutput(stderr)
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, errUsage
		}
		if fs.NArg() == 0 {
			return rest, nil
		}
		rest = append(rest, fs.Arg(0))
		args = fs.Args()[1:]
	}
}

// parse parses flags around n arguments, and returns the arguments.
func parse(fs *flag.FlagSet, args []string, n int, stderr io.Writer) ([]string, error) {
	rest, err := words(fs, args, stderr)
	if err != nil {
		return nil, err
	}
	if len(rest) != n {
		fmt.Fprintf(stderr, "serin %s: %d arguments, want %d\n", fs.Name(), len(rest), n)
		fs.Usage()
		return nil, errUsage
	}
	return rest, nil
}

// verb is one of the things that a command does: the word for it, how many arguments
// stand after it, and how the usage shows those.
type verb struct {
	name string
	n    int // -1: one or more
	args string
}

// parseVerb parses flags around a verb and its arguments, and returns the verb with
// its arguments after it.
func parseVerb(fs *flag.FlagSet, args []string, stderr io.Writer, verbs ...verb) ([]string, error) {
	var names, shapes []string
	for _, v := range verbs {
		names = append(names, v.name)
		shapes = append(shapes, strings.TrimSpace(v.name+" "+v.args))
	}
	fs.Usage = func() {
		fmt.Fprintf(stderr, "usage: serin %s %s\n", fs.Name(), strings.Join(shapes, " | "))
		fs.PrintDefaults()
	}
	rest, err := words(fs, args, stderr)
	if err != nil {
		return nil, err
	}
	if len(rest) == 0 {
		rest = []string{""}
	}
	i := slices.Index(names, rest[0])
	switch got := len(rest) - 1; {
	case i < 0:
		fmt.Fprintf(stderr, "serin %s: %q: want one of %s\n", fs.Name(), rest[0], strings.Join(names, ", "))
	case verbs[i].n >= 0 && got != verbs[i].n:
		fmt.Fprintf(stderr, "serin %s %s: %d arguments, want %d\n", fs.Name(), rest[0], got, verbs[i].n)
	case verbs[i].n < 0 && got == 0:
		fmt.Fprintf(stderr, "serin %s %s: 0 arguments, want 1 or more\n", fs.Name(), rest[0])
	default:
		return rest, nil
	}
	fs.Usage()
	return nil, errUsage
}
