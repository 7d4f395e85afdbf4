// Text with the Markdown that models write, as elements. Everything that came from the model ends up as text: no markup is
// ever parsed. Not all of CommonMark: paragraphs, headings, lists, quotes, tables, rules, fenced code, emphasis, links.

const MAX_DEPTH = 6; // of lists, quotes and emphasis within one another; beyond, they are plain text

const FENCE = /^\s{0,3}(`{3,}|~{3,})\s*([^\s`]*)/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^\s{0,3}([-*_])(\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+/;
const TABLE_RULE = /^\s*\|?(\s*:?-+:?\s*\|)+\s*(:?-+:?\s*)?$/;

function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

// Splits into blocks: [{kind, source, ...}]. Equal sources of one kind look the same.
export function blocksOf(text) {
  const lines = text.split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (lines[at].trim() === "") {
      ++at;
      continue;
    }
    const block = blockAt(lines, at);
    blocks.push({ ...block, source: lines.slice(at, block.end).join("\n") });
    at = block.end;
  }
  return blocks;
}

function blockAt(lines, at) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return fencedAt(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) return { kind: "heading", level: heading[1].length, text: heading[2], end: at + 1 };
  if (RULE.test(line)) return { kind: "rule", end: at + 1 };
  if (line.startsWith(">")) return quoteAt(lines, at);
  if (ITEM.test(line)) return listAt(lines, at);
  if (line.includes("|") && TABLE_RULE.test(lines[at + 1] ?? "")) return tableAt(lines, at);
  return paragraphAt(lines, at);
}

function endOf(lines, at, goesOn) {
  while (at < lines.length && goesOn(lines[at])) ++at;
  return at;
}

function fencedAt(lines, at, [, mark, language]) {
  const close = endOf(lines, at + 1, (line) => !(line.trim().startsWith(mark) && line.trim().replaceAll(mark[0], "") === ""));
  return { kind: "code", language, text: lines.slice(at + 1, close).join("\n"), end: Math.min(close + 1, lines.length) };
}

function quoteAt(lines, at) {
  const end = endOf(lines, at, (line) => line.startsWith(">"));
  return { kind: "quote", text: lines.slice(at, end).map((line) => line.replace(/^> ?/, "")).join("\n"), end };
}

// Items are the lines that are indented no more than the first; what is indented more belongs to the item above.
function listAt(lines, at) {
  const indent = ITEM.exec(lines[at])[1].length;
  const ordered = /\d/.test(ITEM.exec(lines[at])[2]);
  const items = [];
  let end = at;
  for (; end < lines.length; ++end) {
    const item = ITEM.exec(lines[end]);
    if (item && item[1].length <= indent) {
      if (/\d/.test(item[2]) !== ordered) break;
      items.push([lines[end].slice(item[0].length)]);
    } else if (/^\s+\S/.test(lines[end])) {
      items.at(-1).push(lines[end].slice(Math.min(indent + 2, lines[end].search(/\S/))));
    } else if (lines[end].trim() === "" && /^\s+\S|^\s*([-*+]|\d{1,9}[.)])\s/.test(lines[end + 1] ?? "")) {
      items.at(-1).push("");
    } else {
      break;
    }
  }
  const start = ordered ? parseInt(lines[at].trim(), 10) : 1;
  return { kind: "list", ordered, start, items: items.map((item) => item.join("\n")), end };
}

function cellsOf(row) {
  return row.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").map((cell) => cell.trim());
}

function tableAt(lines, at) {
  const end = endOf(lines, at + 2, (line) => line.includes("|"));
  return { kind: "table", head: cellsOf(lines[at]), rows: lines.slice(at + 2, end).map(cellsOf), end };
}

function paragraphAt(lines, at) {
  const ends = (line) => line.trim() === "" || line.startsWith(">") || [FENCE, HEADING, RULE, ITEM].some((form) => form.test(line));
  const end = endOf(lines, at + 1, (line) => !ends(line));
  return { kind: "paragraph", text: lines.slice(at, end).join("\n"), end };
}

export function buildBlock(block, depth = 0) {
  switch (block.kind) {
    case "heading": {
      // The page's own headings come first.
      const heading = element(`h${Math.min(block.level + 2, 6)}`);
      appendInline(heading, block.text);
      return heading;
    }
    case "rule":
      return element("hr");
    case "code":
      return buildCode(block);
    case "quote":
      return buildNested(element("blockquote"), block.text, depth);
    case "list": {
      const list = element(block.ordered ? "ol" : "ul");
      if (block.ordered && block.start !== 1) list.start = block.start;
      list.append(...block.items.map((item) => buildNested(element("li"), item, depth)));
      return list;
    }
    case "table":
      return buildTable(block);
    default: {
      const paragraph = element("p");
      appendInline(paragraph, block.text);
      return paragraph;
    }
  }
}

function buildNested(parent, text, depth) {
  if (depth >= MAX_DEPTH) {
    parent.append(text);
    return parent;
  }
  const blocks = blocksOf(text);
  // An item of one paragraph needs none.
  if (blocks[0]?.kind === "paragraph") appendInline(parent, blocks.shift().text);
  parent.append(...blocks.map((block) => buildBlock(block, depth + 1)));
  return parent;
}

function buildTable({ head, rows }) {
  const row = (cells, name) =>
    element("tr", ...head.map((_, i) => {
      const cell = element(name);
      appendInline(cell, cells[i] ?? "");
      return cell;
    }));
  const table = element("table", element("thead", row(head, "th")), element("tbody", ...rows.map((cells) => row(cells, "td"))));
  const frame = element("div", table); // scrolls by itself
  frame.className = "table";
  return frame;
}

function buildCode({ language, text }) {
  const copy = element("button", "Copy");
  copy.type = "button";
  copy.addEventListener("click", async () => {
    copy.textContent = (await copyText(text)) ? "Copied" : "Not copied";
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  });
  const code = element("figure", element("figcaption", element("span", language), copy), element("pre", element("code", text)));
  code.className = "code";
  return code;
}

// Pages that came by plain HTTP have no navigator.clipboard.
export async function copyText(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }
  const area = element("textarea");
  area.value = text;
  area.className = "visually-hidden";
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return copied;
}

// --- within a line

const EMPHASIS = [["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];
const WORD = /[\p{L}\p{N}]/u;

// `absent` has the marks that nothing closes any more, so that a text is not searched for each of them again and again.
function spanAt(text, at, absent, depth) {
  const c = text[at];
  if (c === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) return { node: text[at + 1], end: at + 2 };
  if (c === "`") return codeSpanAt(text, at, absent);
  if (c === "[") return linkAt(text, at, absent);
  if (depth >= MAX_DEPTH || !"*_~".includes(c)) return null;
  const form = EMPHASIS.find(([mark]) => text.startsWith(mark, at));
  return form ? emphasisAt(text, at, form, absent, depth) : null;
}

function codeSpanAt(text, at, absent) {
  const mark = /^`+/.exec(text.slice(at, at + 16))[0];
  const close = absent.has(mark) ? -1 : text.indexOf(mark, at + mark.length);
  if (close < 0) {
    absent.add(mark);
    return { node: mark, end: at + mark.length };
  }
  return { node: element("code", text.slice(at + mark.length, close)), end: close + mark.length };
}

function emphasisAt(text, at, [mark, name], absent, depth) {
  const start = at + mark.length;
  const inWord = mark[0] === "_" && at > 0 && WORD.test(text[at - 1]);
  if (absent.has(mark) || inWord || /^(\s|$)/.test(text.slice(start, start + 1))) return { node: mark, end: start };
  let close = text.indexOf(mark, start + 1);
  while (close >= 0 && (/\s/.test(text[close - 1]) || (mark[0] === "_" && WORD.test(text[close + mark.length] ?? ""))))
    close = text.indexOf(mark, close + 1);
  if (close < 0) {
    absent.add(mark);
    return { node: mark, end: start };
  }
  const node = element(name);
  appendInline(node, text.slice(start, close), depth + 1);
  return { node, end: close + mark.length };
}

// Links to other schemes than these stay text.
function linkAt(text, at, absent) {
  const middle = absent.has("[") ? -1 : text.indexOf("](", at);
  const close = middle < 0 ? -1 : text.indexOf(")", middle);
  if (close < 0) {
    absent.add("[");
    return null;
  }
  const address = text.slice(middle + 2, close).trim();
  if (text.slice(at + 1, middle).includes("[") || !/^(https?|mailto):\S+$/i.test(address)) return null;
  const node = element("a", text.slice(at + 1, middle));
  node.href = address;
  node.title = address;
  node.target = "_blank";
  node.rel = "noopener noreferrer nofollow";
  return { node, end: close + 1 };
}

function appendInline(parent, text, depth = 0) {
  const absent = new Set();
  let plain = 0;
  let at = 0;
  while (at < text.length) {
    const span = spanAt(text, at, absent, depth);
    if (!span) {
      ++at;
      continue;
    }
    parent.append(text.slice(plain, at), span.node);
    at = plain = span.end;
  }
  parent.append(text.slice(plain));
}

// Shows `text` in `parent`, which shows an earlier state of it: blocks that are as they were keep their elements, so that a
// long answer costs what its last block does, and a selection above stays.
export function showMarkdown(parent, text) {
  const blocks = blocksOf(text);
  const shown = parent.shownBlocks ?? [];
  let same = 0;
  while (same < blocks.length && same < shown.length && blocks[same].source === shown[same]) ++same;
  while (parent.childNodes.length > same) parent.lastChild.remove();
  parent.append(...blocks.slice(same).map((block) => buildBlock(block)));
  parent.shownBlocks = blocks.map((block) => block.source);
}
