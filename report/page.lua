-- A pandoc filter for pdf.py: what only a browser shows, as blocks of a page; formulas, tables, links mended.

local READERS = { html = "html", markdown = "gfm+tex_math_dollars", latex = "latex" }
local OUTPUTS = { stderr = "warning", error = "failure", stdout = "printed", execute_result = "printed" }

local function wrapped(name, blocks)
  blocks:insert(1, pandoc.RawBlock("typst", "#" .. name .. "["))
  blocks:insert(pandoc.RawBlock("typst", "]"))
  return blocks
end

local function aligned(others)
  return function(tab) -- the first column to the left, the others where nothing else is asked for
    for number, column in ipairs(tab.colspecs) do
      if column[1] == "AlignDefault" then column[1] = number == 1 and "AlignLeft" or others end
    end
    return tab
  end
end

local function read(raw)
  if not READERS[raw.format] then return nil end
  return pandoc.read(raw.text, READERS[raw.format]).blocks:walk {
    Plain = function(plain) return pandoc.Para(plain.content) end,
    Table = raw.format == "html" and aligned("AlignRight") or nil, -- numbers, as pandas shows them
  }
end

local raw = {
  RawBlock = read,
  RawInline = function(inline)
    if inline.format == "html" then return pandoc.utils.blocks_to_inlines(read(inline)) end
  end,
}

local page = {
  Table = aligned("AlignLeft"),
  Math = function(math) -- what pandoc sets badly: as steps back, as nothing, out of line
    math.text = math.text:gsub("\\!", ""):gsub("\\;", "\\:"):gsub("\\[bB]igg?[lrm]?([^%a])", "%1")
    return math
  end,
  Link = function(link) -- to a file or a heading of the notebook: on paper only its text has a meaning
    if not link.target:match("^https?://") then return link.content end
  end,
  Image = function(image)
    if image.src:match("^https?://") then return {} end -- a badge; nothing is downloaded
    image.attributes.width = (image.attributes.style or ""):match("width:%s*(%d+px)") or image.attributes.width
    return image
  end,
  Header = function(header)
    header.identifier = "" -- nothing refers to it
    return header
  end,
  Div = function(div)
    for class, name in pairs(OUTPUTS) do
      if div.classes:includes(class) then return wrapped(name, div.content) end
    end
    if div.classes:includes("code") then
      local code = div.content:remove(1)
      local _, lines = code.text:gsub("\n", "")
      local call = string.format('source("%s", %s)', div.attributes.execution_count or " ", lines > 40)
      return wrapped(call, pandoc.Blocks { code }) .. div.content
    end
    if (div.attributes.style or ""):find("flex") then return wrapped("together", div.content) end -- a player
    return div.content
  end,
}

return { raw, page }
