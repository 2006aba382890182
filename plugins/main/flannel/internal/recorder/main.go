//go:build linux

// Command recorder is a delegate for flannel's tests: it notes what it is asked for,
// and fails on demand.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// variable names the file in which the recorder notes how it was called. What it does
// at a verb is told by the same name with _VERB at its end:
//
//	error CODE MSG  an error object, with details
//	both CODE MSG   a result, then an error object
//	print TEXT      TEXT and success
//	exit N TEXT     TEXT and that exit code
//	endless         output without end
//	kill            it kills itself
//	wait            it waits for SIGTERM
//	stubborn        it waits, and does not mind SIGTERM
const variable = "RECORD"

// recorded is one call of the recorder.
type recorded struct {
	Verb, ContainerID, IfName, Netns, Args string
	Conf                                   json.RawMessage
}

func main() {
	verb := os.Getenv("CNI_COMMAND")
	conf, err := io.ReadAll(os.Stdin)
	if err == nil && !json.Valid(conf) {
		conf, _ = json.Marshal(string(conf))
	}
	line, _ := json.Marshal(recorded{verb, os.Getenv("CNI_CONTAINERID"), os.Getenv("CNI_IFNAME"), os.Getenv("CNI_NETNS"), os.Getenv("CNI_ARGS"), conf})
	f, err := os.OpenFile(os.Getenv(variable), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	if err != nil {
		panic(err)
	}
	behave(verb, os.Getenv(variable+"_"+verb))
	if verb == "ADD" {
		fmt.Println(`{"cniVersion": "1.1.0", "ips": [{"address": "10.1.17.2/24"}]}`)
	}
	os.Exit(0)
}

func behave(verb, how string) {
	what, rest, _ := strings.Cut(how, " ")
	word, text, _ := strings.Cut(rest, " ")
	code, _ := strconv.Atoi(word)
	switch what {
	case "both":
		fmt.Println(`{"cniVersion": "1.1.0"}`)
		fallthrough
	case "error":
		fmt.Fprintf(os.Stderr, "recorder complains at %s\n", verb)
		fmt.Printf(`{"cniVersion": "1.1.0", "code": %d, "msg": %q, "details": "more about it"}`, code, text)
		os.Exit(1)
	case "print":
		fmt.Print(rest)
		os.Exit(0)
	case "exit":
		fmt.Print(text)
		os.Exit(code)
	case "endless":
		for {
			if _, err := os.Stdout.Write(bytes.Repeat([]byte("endless "), 1000)); err != nil {
				os.Exit(9)
			}
		}
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Hour)
	case "wait":
		time.Sleep(time.Hour)
	}
}
